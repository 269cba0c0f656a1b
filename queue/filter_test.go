package queue_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/queue/storetest"
)

// triedOnce is a queue of three messages that were tried once or twice at hosts of their own.
func triedOnce(t *testing.T) *house {
	t.Helper()
	h := run(t, queue.Options{Schedule: []time.Duration{10 * time.Minute, 5 * time.Hour}}, func(ctx context.Context, l *queue.Lease) queue.Report {
		r := refuse(ctx, l)
		for i := range r.Outcomes {
			switch o := &r.Outcomes[i]; l.Envelope.Lane {
			case "two.example":
				o.Failure = &policy.Failure{Reason: policy.ConnectTimeout, Host: "mx2.hosts.example"}
			default:
				o.Host = "mx1.hosts.example"
			}
		}
		return r
	})
	for i, to := range []string{"a@one.example", "b@two.example", "c@sub.one.example"} {
		d := draft(t, to, "z"+to)
		d.Message.Credential, d.Message.Stream, d.Message.Tag = fmt.Sprint("app", i), "reviews", fmt.Sprint("t", i)
		h.accept(d)
		time.Sleep(7 * time.Minute)
	}
	synctest.Wait()
	return h
}

func (h *house) found(f queue.Filter) string {
	h.t.Helper()
	var got []string
	if err := h.q.List(h.t.Context(), f, func(e queue.Entry) error { got = append(got, e.Envelope.Recipients[0].Address.Local); return nil }); err != nil {
		h.t.Errorf("%+v: %v", f, err)
	}
	return strings.Join(got, " ")
}

func TestFilterWordsMatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := triedOnce(t)
		defer h.stop()
		var ids []string
		for _, e := range h.entries() {
			ids = append(ids, string(e.Message.ID))
		}
		for _, c := range []struct{ words, want string }{
			{"id=" + ids[2] + "," + ids[0] + "-0", "a c"},
			{"id=" + ids[0] + "," + ids[0] + "-0", "a"},
			{"domain=one.example,two.example", "a b"},
			{"domain=two.example, .one.example", "b c"},
			{"recipient=a@one.example", "a"},
			{"recipient=za@ONE.example", "a"},
			{"recipient=@two.example", "b"},
			{"recipient=nobody@one.example", ""},
			{"credential=app1", "b"},
			{"credential=app", ""},
			{"stream=reviews", "a b c"},
			{"stream=other", ""},
			{"tag=t2", "c"},
			{"host=mx1.hosts.example", "a c"},
			{"host=.hosts.example", "a b c"},
			{"host=mx3.hosts.example", ""},
			{"reason=connect-timeout", "b"},
			{"reason=connect-timeout,reply-temporary", "a b c"},
			{"recipient=b@two.example;reason=reply-temporary", ""},
			{"older_than=15m", "a"},
			{"younger_than=15m", "b c"},
			{"older_than=10m;younger_than=15m", "b"},
			{"min_tries=2", "a b"},
			{"min_tries=1", "a b c"},
			{"min_tries=3", ""},
			{"due_within=6m", "c"}, // it has waited for 7 of its 10 to 12 minutes
			{"due_within=1w", "a b c"},
			{"state=waiting;limit=2", "a b"},
		} {
			var f queue.Filter
			for word := range strings.SplitSeq(c.words, ";") {
				key, value, _ := strings.Cut(word, "=")
				if err := f.Set(key, value); err != nil {
					t.Errorf("%s: %v", c.words, err)
				}
			}
			if got := h.found(f); got != c.want {
				t.Errorf("%s: %q, want %q", c.words, got, c.want)
			}
		}
	})
}

// A filter goes through its words and back, and each field has a word.
func TestFilterWords(t *testing.T) {
	t.Parallel()
	var f queue.Filter
	v := reflect.ValueOf(&f).Elem()
	for i := range v.NumField() {
		switch field := v.Field(i); field.Kind() {
		case reflect.String:
			field.SetString(fmt.Sprint("text", i))
		default:
			field.SetInt(int64(time.Duration(i+1) * time.Minute))
		}
	}
	var back queue.Filter
	n := 0
	for key, value := range f.Words() {
		n++
		if err := back.Set(key, value); err != nil {
			t.Error(err)
		}
	}
	if back != f || n != v.NumField() {
		t.Errorf("%d words, %+v became %+v", n, f, back)
	}
	if len(queue.FilterWords()) != n {
		t.Errorf("words %q", queue.FilterWords())
	}
}

// In log and journal a filter names nobody.
func TestFilterString(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter queue.Filter
		want   string
	}{
		{queue.Filter{}, ""},
		{queue.Filter{Sender: "ann@shop.example", Recipient: `"a b"@one.example`}, "sender=*@shop.example recipient=*@one.example"},
		{queue.Filter{Sender: "@shop.example", Domain: ".one.example"}, "domain=.one.example sender=@shop.example"},
		{queue.Filter{Sender: "<>", Recipient: "ann"}, "sender=<> recipient=*"},
		{queue.Filter{OlderThan: time.Hour, Limit: 3, After: "x"}, "older_than=1h0m0s limit=3"},
	} {
		if got := c.filter.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestFilterMistakes(t *testing.T) {
	t.Parallel()
	q, err := queue.New(queue.Options{Store: storetest.NewModel()})
	if err != nil {
		t.Fatal(err)
	}
	id := string(queue.NewID(time.Now()))
	for _, c := range []struct{ key, value, want string }{
		{"domian", "x", "did you mean domain?"},
		{"older-than", "1h", "did you mean older_than?"},
		{"colour", "x", "use id, domain, sender,"},
		{"domain", "", "domain is empty: leave it out"},
		{"older_than", "soon", "use for example 90m, 4h, 5d or 1w"},
		{"older_than", "-1h", "use for example"},
		{"due_within", "1000000d", "use for example"},
		{"limit", "0", "no number above 0"},
		{"min_tries", "x", "no number above 0"},
		{"domain", "a.example,,b.example", "empty part"},
		{"domain", "a..b", "for domain use a name"},
		{"host", "a..b", "for host use a name"},
		{"id", id + ",nonsense", `"nonsense" is no message ID`},
		{"reason", "conect-timeout", "did you mean connect-timeout?"},
		{"reason", "xyz", "use a word as in the log"},
		{"state", "hold", "did you mean held?"},
		{"recipient", "<>", "use an address, or @domain"},
		{"recipient", "ann", "use an address, or @domain"},
		{"id", strings.Repeat(id+",", 1000) + id, "1000 is the limit"},
	} {
		var f queue.Filter
		err := f.Set(c.key, c.value)
		if err == nil {
			err = q.List(t.Context(), f, func(queue.Entry) error { return nil })
		}
		var mistake *queue.FilterError
		if !errors.As(err, &mistake) || !strings.Contains(mistake.Detail, c.want) {
			t.Errorf("%s=%.60s: %v, want a FilterError with %q", c.key, c.value, err, c.want)
		}
	}
	err = q.List(t.Context(), queue.Filter{OlderThan: time.Hour, YoungerThan: time.Minute}, nil)
	var mistake *queue.FilterError
	if !errors.As(err, &mistake) {
		t.Errorf("older and younger: %v", err)
	}
}

// A list goes page by page, and misses nothing that stands still.
func TestListPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := stocked(t)
		for i := range 600 {
			h.enqueue(fmt.Sprintf("u%d@more.example", i))
		}
		want := h.found(queue.Filter{})
		var got []string
		for f := (queue.Filter{Limit: 7}); ; {
			n := 0
			if err := h.q.List(t.Context(), f, func(e queue.Entry) error {
				got, f.After = append(got, e.Envelope.Recipients[0].Address.Local), e.Cursor
				n++
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if n < f.Limit {
				break
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%d in pages, not as in one list", len(got))
		}
	})
}

func TestSurvey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ids := stocked(t)
		if _, err := h.q.Act(t.Context(), queue.Action{Verb: queue.VerbHold}, queue.Filter{Domain: "two.example"}); err != nil {
			t.Fatal(err)
		}
		s, err := h.q.Survey(t.Context(), queue.Inquiry{})
		if err != nil || s.Envelopes != 4 || s.Messages != 3 || s.Recipients != 4 || s.Octets != 3*22 || s.Others != 0 || s.Slack != 0 ||
			!s.Oldest.Equal(h.start) || fmt.Sprint(s.States) != "map[damaged:0 held:1 leased:0 waiting:3]" {
			t.Errorf("%+v, %v", s, err)
		}
		if got := fmt.Sprint(groups(s)); got != "[one.example 2 sub.one.example 1 two.example 1]" {
			t.Errorf("by domain: %s", got)
		}
		for _, c := range []struct {
			in   queue.Inquiry
			want string
		}{
			{queue.Inquiry{By: "state"}, "[waiting 3 held 1]"},
			{queue.Inquiry{By: "reason"}, "[ 4]"},
			{queue.Inquiry{By: "credential"}, "[ 4]"},
			{queue.Inquiry{Top: 1}, "[one.example 2]"},
			{queue.Inquiry{Verb: queue.VerbRelease}, "[two.example 1]"},
			{queue.Inquiry{Verb: queue.VerbHold, Filter: queue.Filter{ID: string(ids[0])}}, "[one.example 1]"},
			{queue.Inquiry{Filter: queue.Filter{Limit: 3}, By: "state"}, "[waiting 2 held 1]"},
		} {
			s, err := h.q.Survey(t.Context(), c.in)
			if got := fmt.Sprint(groups(s)); err != nil || got != c.want {
				t.Errorf("%+v: %s, %v, want %s", c.in, got, err, c.want)
			}
		}
		for _, bad := range []queue.Inquiry{{By: "domian"}, {Verb: "burn"}, {Top: -1}, {Top: 5000}, {Filter: queue.Filter{State: "x"}}} {
			var mistake *queue.FilterError
			if _, err := h.q.Survey(t.Context(), bad); !errors.As(err, &mistake) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
}

func groups(s queue.Survey) (list []string) {
	for _, g := range s.Top {
		list = append(list, fmt.Sprint(g.Name, " ", g.Envelopes))
	}
	return list
}

// With more domains than it has places for, a survey still finds the large ones, and says
// how far its numbers may be off.
func TestSurveyOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := stocked(t)
		for i := range 9000 {
			name := fmt.Sprintf("d%d.example", i)
			switch i % 9 {
			case 0, 1, 2:
				name = "large.example"
			case 5:
				name = "second.example"
			}
			h.enqueue("u@" + name)
		}
		s, err := h.q.Survey(t.Context(), queue.Inquiry{Top: 2})
		if err != nil || s.Envelopes != 9004 || len(s.Top) != 2 || s.Slack == 0 || s.Slack > 3 {
			t.Fatalf("%+v, %v", s, err)
		}
		for i, want := range []struct {
			name string
			n    int
		}{{"large.example", 3000}, {"second.example", 1000}} {
			if g := s.Top[i]; g.Name != want.name || g.Envelopes < want.n || g.Envelopes-s.Slack > want.n {
				t.Errorf("%+v, want %+v", g, want)
			}
		}
	})
}

// Long work tells how far it is, and ends with what is in hand when nobody waits for it
// any more; the journal has what was done.
func TestDoInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{Model: storetest.NewModel()}
		q, err := queue.New(queue.Options{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2000 {
			if _, err := q.Enqueue(t.Context(), draft(t, fmt.Sprintf("u%d@one.example", i))); err != nil {
				t.Fatal(err)
			}
		}
		s.lag = 150 * time.Millisecond // of a batch
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var told []queue.Progress
		p, err := q.Do(ctx, queue.Order{Action: queue.Action{Verb: queue.VerbDrop, By: "uid 7"}, Filter: queue.Filter{Recipient: "@one.example"}, Tell: func(p queue.Progress) {
			if told = append(told, p); len(told) == 1 {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) || p.Done == 0 || p.Done >= 2000 || len(told) == 0 || told[0].Total != 2000 || told[0].Done > p.Done {
			t.Fatalf("%+v, %v, told %+v", p, err, told)
		}
		left := q.Stats().Envelopes["waiting"]
		if left != 2000-p.Done {
			t.Errorf("%d done, %d left", p.Done, left)
		}
		j := (&house{t: t, q: q, store: s.Model}).journal()
		last := j[len(j)-1]
		if o := last.Operator; last.Kind != queue.EntryOperator || o.Verb != "drop" || o.By != "uid 7" || o.Target != "recipient=@one.example" || o.Done != p.Done || o.Failed != "interrupted" {
			t.Errorf("the journal ends with %+v, %+v", last, last.Operator)
		}
	})
}

// slow is a store on a slow disk.
type slow struct {
	*storetest.Model
	lag time.Duration
}

func (s *slow) Commit(ctx context.Context, c *queue.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	time.Sleep(s.lag) // of a bubble
	return s.Model.Commit(ctx, c)
}
