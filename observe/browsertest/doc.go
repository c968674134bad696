// Package browsertest looks at the page of package observe as a person does: in a browser. It is a module of its own, so that
// nobody has to have the browser's driver.
//
//	go test ./...                                   # needs Chromium: the Debian package chromium
//	STREAMSAFE_SCREENSHOT=../../docs/streams.png go test ./...   # makes the picture of the guide again
package browsertest
