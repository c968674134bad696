package stream

// ServerOption configures a server stream; see [ServerInterceptor]. A nil ServerOption is an error of Validate.
type ServerOption interface{ applyServer(o *serverOptions) }

// Option is an option for both ends of a stream.
type Option interface {
	ClientOption
	ServerOption
}

type serverOption func(*serverOptions)

func (f serverOption) applyServer(o *serverOptions) { f(o) }

// option is what an option for both ends does to each.
type option struct {
	clientOption
	serverOption
}
