package outbox

// Said is what was said of a SendMsg, and by whom.
type Said uint8

const (
	// OK is no error.
	OK Said = iota
	// Dead is the transport's io.EOF: the attempt is over, and the transport never had the message.
	Dead
	// Rejected is grpc's own refusal, before the transport: too large, not to be encoded. grpc has aborted the attempt.
	Rejected
	// Lost is UNAVAILABLE, CANCELLED or DEADLINE_EXCEEDED on an attempt that is dead: an interceptor tells of its end.
	Lost
	// Failed is any other error: an interceptor's, before or after it passed the message on.
	Failed
)

// Encoded is whether the codec has seen the message in this turn. Without replay there is no codec to ask.
type Encoded uint8

const (
	// Unknown means that nobody has looked.
	Unknown Encoded = iota
	// No means that grpc never had the message.
	No
	// Yes means that grpc had it, or what an interceptor made of it: it may have reached the wire.
	Yes
)

// Message is what becomes of a message.
type Message uint8

const (
	// Sent means that the message counts as sent. If it is kept, it is sent again until it is acknowledged.
	Sent Message = iota
	// InDoubt means that it counts as sent, though Send returns an error: it may have reached the wire (invariant 34).
	InDoubt
	// TakenBack means that it was never sent. Its number is given to the next one.
	TakenBack
	// Again means that it was never sent, and is sent on the next attempt. Until then it counts as TakenBack.
	Again
)

// Attempt is what becomes of the attempt.
type Attempt uint8

const (
	// Lives means that it goes on.
	Lives Attempt = iota
	// Suspect means that it is dead, and that somebody has to find out why.
	Suspect
	// Aborted means that grpc has ended it, because of the message.
	Aborted
	// GivenUp means that the caller ends it, so that the server tells what it has.
	GivenUp
)

// Outcome is what the result of a SendMsg means. The whole table:
//
//	said       encoded          kept   message     attempt   Send returns
//	OK         –                –      Sent        Lives     nil
//	Dead       –                yes    Sent        Suspect   nil
//	Dead       –                no     Again       Suspect   –
//	Rejected   –                –      TakenBack   Aborted   the error
//	Lost       No               –      Again       Suspect   –
//	Lost       Yes or Unknown   –      Sent        Suspect   nil
//	Failed     No               –      TakenBack   Lives     the error
//	Failed     Yes              yes    InDoubt     GivenUp   the error
//	Failed     Yes or Unknown   no     InDoubt     Lives     the error
//
// A message is kept with replay. Whatever may have reached the wire counts as sent, whoever reports an error afterwards
// (invariant 34): Unknown counts as Yes, but for what the transport and grpc itself say.
//
// In a replay the message was sent before, and stays kept, whatever happens now. Only the attempt's column counts then.
type Outcome struct {
	Message Message
	Attempt Attempt
}

// outcomeOf is the table.
func outcomeOf(said Said, encoded Encoded, kept bool) Outcome {
	switch {
	case said == OK:
		return Outcome{Sent, Lives}
	case said == Dead && kept:
		return Outcome{Sent, Suspect}
	case said == Dead:
		return Outcome{Again, Suspect}
	case said == Rejected:
		return Outcome{TakenBack, Aborted}
	case said == Lost && encoded == No:
		return Outcome{Again, Suspect}
	case said == Lost:
		return Outcome{Sent, Suspect}
	case encoded == No:
		return Outcome{TakenBack, Lives}
	case kept:
		return Outcome{InDoubt, GivenUp}
	default:
		return Outcome{InDoubt, Lives}
	}
}
