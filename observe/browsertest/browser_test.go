package browsertest_test

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/observe"
	"github.com/streamsafe/streamsafe/observe/internal/demo"
	"github.com/streamsafe/streamsafe/stream"
)

// browser starts Chromium. The context ends it.
func browser(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("STREAMSAFE_SERVICES_REQUIRED") != "" || os.Getenv("CI") == "true" {
			require.Fail(t, "CI needs a browser: the Debian package chromium")
		}
		t.Skip("NOT TESTED: no browser is installed (the Debian package chromium)")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.WindowSize(1400, 700), chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A person opens the page, filters, chooses a stream, and sees it break and come back, without a reload.
func TestAPersonSeesAStreamBreakAndComeBack(t *testing.T) {
	t.Parallel()
	page := observe.Handler()
	prices, err := demo.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(prices.Close)
	orders, err := demo.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(orders.Close)
	for name, server := range map[string]*demo.Server{"prices eu": prices, "prices us": prices, "orders": orders, "<i>audit</i>": orders} {
		s, err := server.Open(t.Context(), stream.WithName(name), stream.WithObserver(page))
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
	}
	web := httptest.NewServer(page)
	t.Cleanup(web.CloseClientConnections)
	ctx := browser(t)

	// wait waits until a JavaScript expression is true.
	wait := func(what, expression string) {
		t.Helper()
		require.NoError(t, chromedp.Run(ctx, chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(time.Minute))), what)
	}
	// follow clicks a link, and waits until the page that it leads to is there.
	follow := func(link string) {
		t.Helper()
		_, err := chromedp.RunResponse(ctx, chromedp.Click(link, chromedp.BySearch))
		require.NoError(t, err, link)
	}
	const rows = `document.querySelectorAll("#rows tr").length`
	const text = `document.querySelector("#rows").innerText`

	require.NoError(t, chromedp.Run(ctx, chromedp.Navigate(web.URL), chromedp.Evaluate(`window.loadedOnce = true`, nil)))
	wait("all streams", rows+` === 4`)
	wait("a name is text", text+`.includes("<i>audit</i>") && document.querySelectorAll("#rows i").length === 0`)
	wait("a sparkline", `[...document.querySelectorAll("polyline")].every(l => l.getAttribute("points").split(" ").length > 3)`)

	require.NoError(t, chromedp.Run(ctx, chromedp.SendKeys("#filter", "prices")))
	wait("the filter", rows+` === 2 && `+text+`.includes("prices eu") && !`+text+`.includes("orders")`)
	prices.Break()
	wait("the streams break", `document.querySelectorAll("#rows .attached").length === 0 && `+text+`.includes("the server is broken")`)
	wait("the totals say so", `document.querySelector("#totals .trouble").innerText.startsWith("2 ")`)
	require.NoError(t, chromedp.Run(ctx, chromedp.Evaluate(
		`document.querySelector("#filter").value = ""; document.querySelector("#filter").dispatchEvent(new Event("input"))`, nil)))
	wait("no filter", rows+` === 4`)
	wait("trouble comes first", `document.querySelector("#rows tr").innerText.includes("prices")`)
	wait("nothing was loaded again", `window.loadedOnce === true`)

	follow(`//tbody[@id="rows"]//a[contains(., "prices eu")]`)
	wait("the events of the chosen stream", `document.querySelector("#detail").innerText.includes("lost")`)
	screenshot(ctx, t)
	prices.Mend()
	wait("the streams are back", `document.querySelectorAll("#rows .attached").length === 4`)
	wait("the event is there", `document.querySelector("#detail tr").innerText.includes("attached")`)

	follow(`//th/a[text()="Stream"]`)
	wait("sorted", `document.querySelector("th[aria-sort=ascending]").innerText.includes("Stream") && `+
		`document.querySelector("#rows tr").innerText.includes("<i>audit</i>")`)
	var outside int
	require.NoError(t, chromedp.Run(ctx, chromedp.Evaluate(
		`performance.getEntriesByType("resource").filter(r => !r.name.startsWith(location.origin)).length`, &outside)))
	require.Zero(t, outside, "nothing comes from outside")
}

// screenshot makes the picture of the guide, if it is asked for.
func screenshot(ctx context.Context, t *testing.T) {
	t.Helper()
	path := os.Getenv("STREAMSAFE_SCREENSHOT")
	if path == "" {
		return
	}
	var png []byte
	require.NoError(t, chromedp.Run(ctx, chromedp.CaptureScreenshot(&png)))
	require.NoError(t, os.WriteFile(path, png, 0o644)) //nolint:gosec // a picture
}
