package checkpoint

import "errors"

// errInUse is what lockFile returns where somebody else holds the lock.
var errInUse = errors.New("another store holds the lock")
