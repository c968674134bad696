// Package checkpoint keeps the positions from which streams resume.
package checkpoint
