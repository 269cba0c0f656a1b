package queue

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/policy"
)

// Filter says which envelopes are meant. Zero fields match everything; all that are set
// must match. Its words are those of the command line and of the admin API: see Words.
type Filter struct {
	ID          string        `json:"id,omitempty"`           // message or envelope IDs, with commas
	Domain      string        `json:"domain,omitempty"`       // names, or ".name" for all below it, with commas
	Sender      string        `json:"sender,omitempty"`       // an address, "@domain", or "<>"
	Recipient   string        `json:"recipient,omitempty"`    // an address, or "@domain"; one that is pending
	Credential  string        `json:"credential,omitempty"`   // who submitted it
	Stream      string        `json:"stream,omitempty"`       // of the message
	Tag         string        `json:"tag,omitempty"`          // of the message
	Host        string        `json:"host,omitempty"`         // mail host that answered last: a name, or ".name"
	State       string        `json:"state,omitempty"`        // waiting, leased, held, damaged
	Reason      string        `json:"reason,omitempty"`       // of the last failure of a recipient; words with commas
	OlderThan   time.Duration `json:"older_than,omitempty"`   // since acceptance
	YoungerThan time.Duration `json:"younger_than,omitempty"` // since acceptance
	DueWithin   time.Duration `json:"due_within,omitempty"`   // waiting, and to be tried so soon
	MinTries    int           `json:"min_tries,omitempty"`    // so many tries or more
	Limit       int           `json:"limit,omitempty"`        // 0: no limit
	After       string        `json:"after,omitempty"`        // Entry.Cursor of the last envelope seen
}

// Bounds of a filter's lists.
const maxFilterList = 1000

// FilterError is an operator's mistake: a filter, an ID or a verb that cannot be
// meant. Its text says what is wrong and how to mend it, and is for that operator:
// it quotes what was given.
type FilterError struct{ Detail string }

// Error is the detail.
func (e *FilterError) Error() string { return e.Detail }

func badFilter(format string, args ...any) error {
	return &FilterError{fmt.Sprintf(format, args...)}
}

// filterWord is one word of a filter: the one table of them. One of the pointers is set.
type filterWord struct {
	key     string
	text    *string
	span    *time.Duration
	number  *int
	address bool // the value may hold an address
}

func (f *Filter) words() []filterWord {
	return []filterWord{
		{key: "id", text: &f.ID},
		{key: "domain", text: &f.Domain},
		{key: "sender", text: &f.Sender, address: true},
		{key: "recipient", text: &f.Recipient, address: true},
		{key: "credential", text: &f.Credential},
		{key: "stream", text: &f.Stream},
		{key: "tag", text: &f.Tag},
		{key: "host", text: &f.Host},
		{key: "state", text: &f.State},
		{key: "reason", text: &f.Reason},
		{key: "older_than", span: &f.OlderThan},
		{key: "younger_than", span: &f.YoungerThan},
		{key: "due_within", span: &f.DueWithin},
		{key: "min_tries", number: &f.MinTries},
		{key: "limit", number: &f.Limit},
		{key: "after", text: &f.After},
	}
}

func (w *filterWord) value() string {
	switch {
	case w.text != nil:
		return *w.text
	case w.span != nil && *w.span != 0:
		return w.span.String()
	case w.number != nil && *w.number != 0:
		return strconv.Itoa(*w.number)
	}
	return ""
}

// FilterWords are the words that Filter.Set knows.
func FilterWords() []string {
	var f Filter
	var keys []string
	for _, w := range f.words() {
		keys = append(keys, w.key)
	}
	return keys
}

// Words are the words of a filter that are set, with their values: what Set reads.
func (f Filter) Words() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, w := range f.words() {
			if v := w.value(); v != "" && !yield(w.key, v) {
				return
			}
		}
	}
}

// Set sets a word of the filter. A *FilterError when there is no such word, or when its
// value is of another kind; what a value means is checked when the filter is used.
func (f *Filter) Set(key, value string) error {
	for _, w := range f.words() {
		if w.key != key {
			continue
		}
		switch {
		case value == "":
			return badFilter("%s is empty: leave it out", key)
		case w.text != nil:
			*w.text = value
		case w.span != nil:
			d, err := ParseSpan(value)
			if err != nil {
				return badFilter("%s %.80q is no time span: use for example 90m, 4h, 5d or 1w", key, value)
			}
			*w.span = d
		default:
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				return badFilter("%s %.80q is no number above 0", key, value)
			}
			*w.number = n
		}
		return nil
	}
	return badFilter("%s", Unknown("parameter", key, FilterWords()))
}

// String is the filter in words, for log and journal: of an address it says the domain only.
func (f Filter) String() string {
	var parts []string
	for _, w := range f.words() {
		v := w.value()
		if v == "" || w.key == "after" {
			continue
		}
		if at := strings.LastIndexByte(v, '@'); w.address && at > 0 {
			v = "*" + v[at:]
		} else if w.address && at < 0 && v != "<>" {
			v = "*"
		}
		parts = append(parts, w.key+"="+v)
	}
	return strings.Join(parts, " ")
}

// ParseSpan reads a positive span of time: Go's, and days ("5d") and weeks ("1w").
func ParseSpan(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			var n int
			if n, err = strconv.Atoi(number); err == nil && n > 100*365 {
				err = strconv.ErrRange
			}
			d = time.Duration(n) * length
		}
	}
	if err == nil && d <= 0 {
		err = strconv.ErrRange
	}
	return d, err
}

// Unknown says that a word is none of some others, and which of them may be meant.
func Unknown(what, word string, known []string) string {
	if len(known) == 0 {
		return fmt.Sprintf("%s %.80q is unknown: there is none here", what, word)
	}
	near := slices.MinFunc(known, func(a, b string) int { return cmp.Compare(distance(word, a), distance(word, b)) })
	if distance(word, near) <= max(2, len(near)/3) {
		return fmt.Sprintf("%s %.80q is unknown: did you mean %s?", what, word, near)
	}
	return fmt.Sprintf("%s %.80q is unknown: use %s", what, word, strings.Join(known, ", "))
}

// distance counts the edits between two words: Levenshtein's. A long word is far from all.
func distance(a, b string) int {
	if len(a) > 80 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// matcher is a filter that was checked.
type matcher struct {
	Filter
	ids       map[string]bool // of messages and envelopes
	domains   []string
	lanes     []string // the domains, when each is one lane: all that must be read
	host      string
	state     RowState
	reasons   []policy.Reason
	sender    Address
	recipient Address
	now       time.Time
	tick      func() // called for each row that is looked at; nil: nobody counts
}

// Check reports what is wrong with a filter: a *FilterError.
func (f Filter) Check() error {
	_, err := f.compile(time.Now())
	return err
}

func (f Filter) compile(now time.Time) (*matcher, error) {
	m := &matcher{Filter: f, now: now}
	if f.After != "" && f.ID != "" {
		return nil, badFilter("after goes with a list of all, not with id: leave one of them out")
	}
	for _, step := range []func() error{m.compileIDs, m.compileDomains, m.compileState, m.compileReasons, m.compileAddresses, m.compileNumbers} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// parts splits a value at its commas.
func parts(key, value string) ([]string, error) {
	if value == "" {
		return nil, nil
	}
	all := strings.Split(value, ",")
	if len(all) > maxFilterList {
		return nil, badFilter("%s has %d parts: %d is the limit", key, len(all), maxFilterList)
	}
	for i, p := range all {
		if all[i] = strings.TrimSpace(p); all[i] == "" {
			return nil, badFilter("%s %.80q has an empty part between commas: take it out", key, value)
		}
	}
	return all, nil
}

func (m *matcher) compileIDs() error {
	names, err := parts("id", m.ID)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := parseName(name); err != nil {
			return err
		}
		if m.ids == nil {
			m.ids = make(map[string]bool)
		}
		m.ids[name] = true
	}
	return nil
}

func (m *matcher) compileDomains() error {
	names, err := parts("domain", m.Domain)
	if err != nil {
		return err
	}
	for _, name := range names {
		d, err := parsePattern("domain", name)
		if err != nil {
			return err
		}
		m.domains = append(m.domains, d)
	}
	if !slices.ContainsFunc(m.domains, func(d string) bool { return d[0] == '.' }) {
		m.lanes = slices.Clone(m.domains)
	}
	if m.Host != "" {
		m.host, err = parsePattern("host", m.Host)
	}
	return err
}

// parsePattern reads a domain, or ".domain" for all below it.
func parsePattern(key, name string) (string, error) {
	rest, below := strings.CutPrefix(name, ".")
	d, err := ParseDomain(rest)
	if err != nil {
		return "", badFilter("%v: for %s use a name such as example.net, or .example.net for all below it", err, key)
	}
	if below {
		return "." + string(d), nil
	}
	return string(d), nil
}

func (m *matcher) compileState() error {
	if m.State == "" {
		return nil
	}
	if err := m.state.UnmarshalText([]byte(m.State)); err != nil || m.state == 0 {
		return badFilter("%s", Unknown("state", m.State, rowWords()[1:]))
	}
	return nil
}

func (m *matcher) compileReasons() error {
	names, err := parts("reason", m.Reason)
	if err != nil {
		return err
	}
	for _, name := range names {
		i := slices.IndexFunc(policy.Reasons(), func(r policy.Reason) bool { return r.String() == name })
		if i < 0 {
			var known []string
			for _, r := range policy.Reasons() {
				known = append(known, r.String())
			}
			if text := Unknown("reason", name, known); strings.HasSuffix(text, "?") {
				return badFilter("%s", text)
			}
			return badFilter("reason %.80q is unknown: use a word as in the log, for example starttls-missing", name)
		}
		m.reasons = append(m.reasons, policy.Reasons()[i])
	}
	return nil
}

func (m *matcher) compileAddresses() (err error) {
	read := func(text string) (a Address, err error) {
		switch {
		case text == "" || text == "<>":
		case text[0] == '@':
			a.Domain, err = ParseDomain(text[1:])
		default:
			a, err = ParseAddress(text)
		}
		return a, err
	}
	if m.sender, err = read(m.Sender); err != nil {
		return badFilter("%v: for sender use an address, @domain, or <> for the null reverse path", err)
	}
	if m.recipient, err = read(m.Recipient); err != nil || m.Recipient == "<>" {
		return badFilter("recipient is no address: use an address, or @domain")
	}
	return nil
}

func (m *matcher) compileNumbers() error {
	for _, w := range m.words() {
		if w.number != nil && *w.number < 0 || w.span != nil && *w.span < 0 {
			return badFilter("%s is negative", w.key)
		}
	}
	if m.YoungerThan > 0 && m.OlderThan >= m.YoungerThan {
		return badFilter("older_than %v and younger_than %v: nothing is both", m.OlderThan, m.YoungerThan)
	}
	return nil
}

// match reports whether an envelope is meant.
func (m *matcher) match(e *Entry) bool {
	age := m.now.Sub(e.Message.AcceptedAt)
	switch {
	case e.State == RowDamaged && m.asks(),
		m.ids != nil && !m.ids[string(e.Message.ID)] && !m.ids[string(e.Envelope.ID)],
		m.domains != nil && !slices.ContainsFunc(m.domains, e.Envelope.Lane.Within),
		m.state != 0 && m.state != e.State,
		m.OlderThan > 0 && age < m.OlderThan,
		m.YoungerThan > 0 && age >= m.YoungerThan,
		m.Credential != "" && m.Credential != e.Message.Credential,
		m.Stream != "" && m.Stream != e.Message.Stream,
		m.Tag != "" && m.Tag != e.Message.Tag,
		m.MinTries > e.Envelope.Tries,
		m.DueWithin > 0 && (e.State != RowWaiting || e.Envelope.Due.After(m.now.Add(m.DueWithin))),
		m.Sender != "" && !same(m.Sender, m.sender, e.Message.Sender):
		return false
	}
	return m.matchRecipients(e.Envelope.Recipients)
}

// asks reports whether the filter asks for what only a readable envelope can answer.
func (m *matcher) asks() bool {
	return m.domains != nil || m.Sender != "" || m.Recipient != "" || m.Credential != "" || m.Stream != "" || m.Tag != "" ||
		m.host != "" || m.reasons != nil || m.MinTries > 0 || m.DueWithin > 0
}

// matchRecipients reports whether one recipient that is pending has all that is asked of it.
func (m *matcher) matchRecipients(recipients []Recipient) bool {
	if m.Recipient == "" && m.reasons == nil && m.host == "" {
		return true
	}
	return slices.ContainsFunc(recipients, func(r Recipient) bool {
		switch {
		case r.State != Pending,
			m.Recipient != "" && !same(m.Recipient, m.recipient, r.Address),
			(m.reasons != nil || m.host != "") && r.Last == nil,
			m.reasons != nil && (r.Last.Failure == nil || !slices.Contains(m.reasons, r.Last.Failure.Reason)),
			m.host != "" && !lastHost(r.Last).Within(m.host):
			return false
		}
		return true
	})
}

// same reports whether an address is the one that was asked for by text.
func same(text string, want, got Address) bool {
	if text[0] == '@' {
		return want.Domain == got.Domain
	}
	return want == got
}

// lastHost is the mail host that an outcome is about; "" when it came to none.
func lastHost(o *Outcome) policy.Domain {
	if o.Host == "" && o.Failure != nil {
		return o.Failure.Host
	}
	return o.Host
}
