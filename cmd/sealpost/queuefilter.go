package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// queueFilter says which envelopes are meant. Its words are those of the admin API: a
// test compares them.
type queueFilter struct {
	ID          []string `name:"id" help:"Message or envelope IDs."`
	Domain      []string `help:"Recipient domains, or .domain for all below it."`
	Sender      string   `help:"Envelope sender: an address, @domain, or <>."`
	Recipient   string   `help:"Recipient that is pending: an address, or @domain."`
	Credential  string   `help:"Credential that submitted it." placeholder:"NAME"`
	Stream      string   `help:"Stream of the message." placeholder:"NAME"`
	Tag         string   `help:"Tag of the message." placeholder:"NAME"`
	Host        string   `help:"Mail host that answered last, or .domain for all below it."`
	State       string   `help:"State: waiting, leased, held or damaged (cannot be read)."`
	Reason      []string `help:"Reasons of the last failure, such as connect-timeout."`
	OlderThan   age      `help:"Least age since acceptance, such as 2h or 3d." placeholder:"AGE"`
	YoungerThan age      `help:"Age since acceptance that it has not reached." placeholder:"AGE"`
	DueWithin   age      `help:"Waiting, and to be tried so soon." placeholder:"AGE"`
	MinTries    int      `help:"So many tries or more." placeholder:"N"`
}

// age is a duration that may be in days and weeks, as in the configuration.
type age time.Duration

// UnmarshalText reads "90s", "2h", "3d", "1w".
func (a *age) UnmarshalText(b []byte) error {
	d, err := queue.ParseSpan(string(b))
	if err != nil {
		return fmt.Errorf("%q is no time span: use a number with s, m, h, d or w, such as 2h or 3d", b)
	}
	*a = age(d)
	return nil
}

func (f *queueFilter) filter() queue.Filter {
	return queue.Filter{
		ID: strings.Join(f.ID, ","), Domain: strings.Join(f.Domain, ","), Sender: f.Sender, Recipient: f.Recipient,
		Credential: f.Credential, Stream: f.Stream, Tag: f.Tag, Host: f.Host, State: f.State, Reason: strings.Join(f.Reason, ","),
		OlderThan: time.Duration(f.OlderThan), YoungerThan: time.Duration(f.YoungerThan), DueWithin: time.Duration(f.DueWithin),
		MinTries: f.MinTries,
	}
}
