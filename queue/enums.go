package queue

import (
	"fmt"
	"strings"
)

// words is the table of an enum's words, by value. They are config, JSON, log and
// metric words at once.
type words []string

func (w words) of(n uint8) string {
	if int(n) < len(w) {
		return w[n]
	}
	return fmt.Sprintf("unknown(%d)", n)
}

func (w words) parse(what string, b []byte) (uint8, error) {
	for i, word := range w {
		if word == string(b) {
			return uint8(i), nil
		}
	}
	return 0, fmt.Errorf("%s %q is unknown: use one of %s", what, b, strings.Join(w, ", "))
}

func recipientWords() words {
	return words{"pending", "delivered", "bounced", "expired", "dropped"}
}
func outcomeWords() words { return words{"deferred", "delivered", "bounced"} }
func rowWords() words     { return words{"unset", "waiting", "leased", "held", "damaged"} }
func noticeWords() words  { return words{"unset", "failed", "delayed", "relayed"} }

// String returns the state's word.
func (s RecipientState) String() string { return recipientWords().of(uint8(s)) }

// MarshalText writes the state's word.
func (s RecipientState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the state's word.
func (s *RecipientState) UnmarshalText(b []byte) error {
	n, err := recipientWords().parse("recipient state", b)
	*s = RecipientState(n)
	return err
}

// String returns the kind's word.
func (k OutcomeKind) String() string { return outcomeWords().of(uint8(k)) }

// MarshalText writes the kind's word.
func (k OutcomeKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the kind's word.
func (k *OutcomeKind) UnmarshalText(b []byte) error {
	n, err := outcomeWords().parse("outcome", b)
	*k = OutcomeKind(n)
	return err
}

// String returns the state's word: waiting, leased, held or damaged.
func (s RowState) String() string { return rowWords().of(uint8(s)) }

// MarshalText writes the state's word.
func (s RowState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the state's word.
func (s *RowState) UnmarshalText(b []byte) error {
	n, err := rowWords().parse("envelope state", b)
	*s = RowState(n)
	return err
}

// String returns the kind's word, the action field of RFC 3464 2.3.3.
func (k NoticeKind) String() string { return noticeWords().of(uint8(k)) }

// MarshalText writes the kind's word.
func (k NoticeKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the kind's word.
func (k *NoticeKind) UnmarshalText(b []byte) error {
	n, err := noticeWords().parse("notice", b)
	*k = NoticeKind(n)
	return err
}

// notifyWords are the wishes in bit order.
func notifyWords() words { return words{"SUCCESS", "FAILURE", "DELAY", "NEVER"} }

// ParseNotify reads the value of a NOTIFY parameter (RFC 3461 4.1): NEVER, or a
// list of SUCCESS, FAILURE and DELAY, in any case of letters.
func ParseNotify(s string) (Notify, error) {
	var n Notify
	for word := range strings.SplitSeq(strings.ToUpper(s), ",") {
		i, err := notifyWords().parse("NOTIFY", []byte(word))
		if err != nil {
			return 0, err
		}
		n |= 1 << i
	}
	// RFC 3461 4.1 (a): the NEVER keyword MUST appear by itself.
	if n&NotifyNever != 0 && n != NotifyNever {
		return 0, fmt.Errorf("NOTIFY %q: NEVER must stand alone (RFC 3461 4.1)", s)
	}
	return n, nil
}

// String writes the value of a NOTIFY parameter; "" for the default.
func (n Notify) String() string {
	var set []string
	for i, word := range notifyWords() {
		if n&(1<<i) != 0 {
			set = append(set, word)
		}
	}
	return strings.Join(set, ",")
}

// MarshalText writes what String does.
func (n Notify) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what ParseNotify reads; nothing is the default.
func (n *Notify) UnmarshalText(b []byte) (err error) {
	*n = 0
	if len(b) > 0 {
		*n, err = ParseNotify(string(b))
	}
	return err
}

// Wants reports whether a notice of this kind may be sent about the recipient
// (RFC 3461 4.1). No NOTIFY parameter counts as FAILURE,DELAY.
func (n Notify) Wants(k NoticeKind) bool {
	if n == 0 {
		n = NotifyFailure | NotifyDelay
	}
	switch k {
	case NoticeFailed:
		return n&NotifyFailure != 0
	case NoticeDelayed:
		return n&NotifyDelay != 0
	case NoticeRelayed:
		return n&NotifySuccess != 0
	}
	return false
}
