package queue

import (
	"time"
)

// Object is a JSON object in the making, for what others hand to the queue with every message (Report.Attempt).
// It writes encoding/json's text, octet by octet. Make one with BeginObject.
type Object struct{ f fields }

// BeginObject begins an object behind b.
func BeginObject(b []byte) Object { return Object{append(b, '{')} }

// End ends it and returns b and the object.
func (o *Object) End() []byte {
	o.f.end()
	return o.f
}

// Text writes a member that is a string.
func (o *Object) Text(name, value string) { o.f.text(name, value) }

// Some is Text, left out when it is empty.
func (o *Object) Some(name, value string) { o.f.some(name, value) }

// Number writes a member that is a number.
func (o *Object) Number(name string, value int64) { o.f.number(name, value) }

// Count is Number, left out when it is 0.
func (o *Object) Count(name string, value int) { o.f.count(name, value) }

// Flag writes a member that is true, or nothing.
func (o *Object) Flag(name string, value bool) { o.f.flag(name, value) }

// Time writes a member that is a time.
func (o *Object) Time(name string, value time.Time) { o.f.time(name, value) }

// Moment is Time, left out when it is zero.
func (o *Object) Moment(name string, value time.Time) { o.f.moment(name, value) }

// Rare writes a member that few values have, by encoding/json.
func (o *Object) Rare(name string, value any) error { return o.f.rare(name, value) }

// Value begins a member; what write appends is its value.
func (o *Object) Value(name string, write func(b []byte) []byte) {
	o.f.key(name)
	o.f = write(o.f)
}

// List writes a member that is a list of n values; write appends one.
func (o *Object) List(name string, n int, write func(b []byte, i int) []byte) {
	o.Value(name, func(b []byte) []byte {
		b = append(b, '[')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			b = write(b, i)
		}
		return append(b, ']')
	})
}
