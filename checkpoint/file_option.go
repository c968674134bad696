package checkpoint

// FileOption is an option of [OpenFile].
type FileOption interface{ apply(o *fileOptions) }

type fileOptions struct{ existing bool }

type fileOption func(o *fileOptions)

func (f fileOption) apply(o *fileOptions) { f(o) }

// WithExisting makes [OpenFile] fail with [ErrNoStore] if the directory holds no store yet, and make nothing. By default
// OpenFile makes a store.
//
// Use it if the directory is on a volume that is mounted. A mount point without its volume is an empty directory. Without
// this option it looks like a new store, and every stream starts at the beginning. Open the directory once without the
// option to make the store.
func WithExisting() FileOption { //nolint:ireturn // options are interfaces by the conventions of this module
	return fileOption(func(o *fileOptions) { o.existing = true })
}
