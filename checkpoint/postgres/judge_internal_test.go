package postgres

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

// What is final is not tried again, and what may have been written is settled (invariants 54 and 55).
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want remote.Verdict
	}{
		{errNoEpoch, remote.Final},
		{errConnClosed, remote.Final},
		{&pgconn.PgError{Code: "42P01"}, remote.Final}, // there is no table
		{ErrNotWriter, remote.Again},
		{&notSentError{errors.New("refused")}, remote.Again},
		{&pgconn.PgError{Code: serializationFailure}, remote.Again},
		{&pgconn.PgError{Code: completionUnknown}, remote.Doubt},
		{&pgconn.PgError{Code: "57P01"}, remote.Doubt}, // the server is stopped
		{&pgconn.PgError{}, remote.Doubt},
		{errors.New("connection reset"), remote.Doubt},
	} {
		require.Equal(t, c.want, judge(fmt.Errorf("acquire: %w", c.err)), "%v", c.err)
	}
}
