package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

// Codes of PostgreSQL's errors: appendix A of its documentation.
const (
	readOnlyTransaction  = "25006" // the server is a standby
	uniqueViolation      = "23505"
	serializationFailure = "40001"
	completionUnknown    = "40003"
	deadlockDetected     = "40P01"
	duplicateTable       = "42P07"
	tooManyConnections   = "53300"
	lockNotAvailable     = "55P03"
	queryCanceled        = "57014" // statement_timeout
	cannotConnectNow     = "57P03" // it starts or stops
)

// judge says what an error of a statement means (invariant 55).
func judge(err error) remote.Verdict {
	notSent := &notSentError{}
	pg, told := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, errConnClosed), errors.Is(err, errNoEpoch):
		return remote.Final
	case errors.Is(err, ErrNotWriter):
		return remote.Again
	case told:
		return judgeCode(pg.Code)
	case errors.As(err, &notSent), pgconn.SafeToRetry(err):
		return remote.Again
	}
	return remote.Doubt
}

func judgeCode(code string) remote.Verdict {
	switch code {
	case readOnlyTransaction, serializationFailure, deadlockDetected, tooManyConnections, lockNotAvailable, queryCanceled, cannotConnectNow:
		return remote.Again
	case completionUnknown:
		return remote.Doubt
	}
	switch class := code[:min(2, len(code))]; class {
	case "08", "57", "58", "XX", "":
		// The connection, the operator, the system. A server that stops tells so also if the statement was done and only a
		// standby's answer was missing.
		return remote.Doubt
	}
	return remote.Final // of a statement that has failed nothing remains
}

func isNotWriter(err error) bool {
	pg, told := errors.AsType[*pgconn.PgError](err)
	return errors.Is(err, ErrNotWriter) || told && pg.Code == readOnlyTransaction
}
