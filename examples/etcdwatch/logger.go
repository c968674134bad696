package main

import (
	"fmt"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// quietLogger says nothing until etcd gives up, which ends the whole process: a full disk, say. Then it says why, in one
// line, and removes the files in dir.
func quietLogger(dir string) *zap.Logger {
	return zap.NewNop().WithOptions(zap.WithPanicHook(lastWord(dir)), zap.WithFatalHook(lastWord(dir)))
}

// lastWord is a hook for an entry after which there is nothing more.
type lastWord string

// OnWrite says it and ends the process.
func (dir lastWord) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	text := entry.Message
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok {
			text = fmt.Sprintf("%s: %v", text, err)
			break
		}
	}
	_, _ = fmt.Fprintln(os.Stderr, "etcdwatch: etcd gives up:", text) // there is nobody else to tell
	_ = os.RemoveAll(string(dir))                                     // it is temporary anyway
	os.Exit(1)
}
