package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the page's text
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
	"github.com/sealpost/sealpost/relay"
)

//go:embed page.html
var pageSource string

//go:embed page.css
var pageStyle string

// page is the parsed template with its policy.
type page struct {
	tmpl   *template.Template
	style  template.CSS
	policy string // Content-Security-Policy
}

// newPage parses the template; a mistake in it is found by the first test.
func newPage() *page {
	sum := sha256.Sum256([]byte(pageStyle))
	return &page{
		tmpl:  template.Must(template.New("page").Parse(pageSource)),
		style: template.CSS(pageStyle), //nolint:gosec // our own file, not input
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}
}

// view is what the page shows.
type view struct {
	Style     template.CSS
	Hostname  string
	Version   string
	Now       time.Time
	Up        string
	Refresh   int // seconds; 0: the page stays as it is
	Ready     bool
	Warnings  []string
	Delivered int64
	Levels    []levelRow
	HasQueue  bool
	Queue     []queueRow
	Attempts  []attemptRow
}

// levelRow is one level's share of the deliveries.
type levelRow struct {
	Level   string
	Meaning string
	Count   int64
	Share   string // percent, for a person
	Width   string // of its bar, 0 to 100
	Start   string // of its piece of the long bar
}

type queueRow struct {
	State  string
	Count  int
	Bytes  string
	Oldest string
}

// attemptRow is one attempt without any address.
type attemptRow struct {
	At       time.Time
	Ago      string
	Message  queue.ID
	Domain   policy.Domain
	Host     policy.Domain
	Wanted   string
	Basis    string
	Achieved string // "" when nobody was delivered
	Outcome  string
	Word     string // delivered, deferred, bounced: for the colour
	Reason   string
	Session  string // TLS version and so on
	Steps    []string
	Why      []string
}

func (s *Server) showPage(w http.ResponseWriter, r *http.Request) {
	refresh, err := strconv.Atoi(r.URL.Query().Get("refresh"))
	if err != nil || refresh < 1 || refresh > 3600 {
		refresh = 0
	}
	v := s.view(r.Context())
	v.Refresh = refresh
	var b bytes.Buffer
	if err := s.page.tmpl.Execute(&b, v); err != nil {
		s.log.Error("http: page failed", "error", err)
		writeProblem(w, internal())
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", s.page.policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	_, _ = b.WriteTo(w)
}

func (s *Server) view(ctx context.Context) view {
	now := time.Now()
	v := view{
		Style: s.page.style, Hostname: s.o.Hostname, Version: s.o.Version,
		Now: now.UTC(), Up: span(now.Sub(s.started)), Ready: true,
	}
	for _, c := range append(probe(ctx, s.live), s.readiness(ctx)...) {
		if !c.OK {
			v.Ready = false
			v.Warnings = append(v.Warnings, c.Name+": "+c.Problem)
		}
	}
	if s.o.Warnings != nil {
		v.Warnings = append(v.Warnings, s.o.Warnings()...)
	}
	if s.o.Recorder != nil {
		v.Levels, v.Delivered = levelRows(s.o.Recorder.Delivered())
		for _, a := range s.o.Recorder.Latest(recentOnPage, "") {
			v.Attempts = append(v.Attempts, attemptRowOf(&a, now))
		}
	}
	if s.o.Queue != nil {
		v.HasQueue = true
		v.Queue = queueRows(s.o.Queue.Stats(), now)
	}
	return v
}

// levelRows lists every level, strongest first.
func levelRows(counts map[policy.Level]int64) (rows []levelRow, total int64) {
	for _, n := range counts {
		total += n
	}
	levels := policy.Levels()
	start := 0.0
	for i := len(levels) - 1; i >= 0; i-- {
		share := 0.0
		if total > 0 {
			share = 100 * float64(counts[levels[i]]) / float64(total)
		}
		rows = append(rows, levelRow{
			Level: levels[i].String(), Meaning: meaning(levels[i]), Count: counts[levels[i]],
			Share: percent(share), Width: fmt.Sprintf("%.2f", share), Start: fmt.Sprintf("%.2f", start),
		})
		start += share
	}
	return rows, total
}

// percent never rounds something to nothing, nor less than all to all.
func percent(share float64) string {
	switch {
	case share > 0 && share < 0.1:
		return "<0.1 %"
	case share > 99.9 && share < 100:
		return ">99.9 %"
	default:
		return strconv.FormatFloat(share, 'f', 1, 64) + " %"
	}
}

// meaning says a level in a few words.
func meaning(l policy.Level) string {
	switch l {
	case policy.DANE:
		return "encrypted; DNSSEC vouches for route and host"
	case policy.MTASTS:
		return "encrypted; the domain's policy vouches for route and host"
	case policy.Verified:
		return "encrypted; the host proved its name"
	case policy.Encrypted:
		return "encrypted; nobody vouches for the host"
	case policy.Legacy:
		return "encrypted with old, weak TLS"
	case policy.Plaintext:
		return "in the clear"
	default:
		return ""
	}
}

func queueRows(st queue.Stats, now time.Time) []queueRow {
	var rows []queueRow
	for _, state := range states()[:queue.RowHeld] {
		row := queueRow{State: state, Count: st.Envelopes[state], Bytes: size(st.Bytes[state]), Oldest: "–"}
		if t := st.Oldest[state]; !t.IsZero() && row.Count > 0 {
			row.Oldest = span(now.Sub(t))
		}
		rows = append(rows, row)
	}
	return rows
}

func attemptRowOf(a *relay.Attempt, now time.Time) attemptRow {
	row := attemptRow{
		At: a.At.UTC(), Ago: span(now.Sub(a.At)), Message: a.Message, Domain: a.Domain, Host: a.Host,
		Wanted: a.Wanted.String(), Basis: a.Basis.String(), Session: session(a),
	}
	if a.Achieved != policy.Unset {
		row.Achieved = a.Achieved.String()
	}
	var delivered, deferred, bounced int
	for _, o := range a.Outcomes {
		switch o.Kind {
		case queue.DeliveredNow:
			delivered++
		case queue.BouncedNow:
			bounced++
		default:
			deferred++
		}
	}
	row.Word, row.Outcome = outcome(delivered, deferred, bounced)
	if r := reason(a); r != policy.ReasonUnset {
		row.Reason = r.English() // a Detail may hold the remote's words
	}
	for _, t := range a.Trace {
		row.Steps = append(row.Steps, stepWords(t))
	}
	for _, n := range a.Why {
		why := n.Text
		if n.Host != "" {
			why = string(n.Host) + ": " + why
		}
		row.Why = append(row.Why, why)
	}
	return row
}

// reason is why an attempt did not deliver to everybody; else why it did no better
// than it did; unset when there was nothing better to want.
func reason(a *relay.Attempt) policy.Reason {
	switch {
	case a.Failure != nil:
		return a.Failure.Reason
	case a.Achieved == policy.Encrypted && a.Evidence.WebPKI != nil:
		return a.Evidence.WebPKI.Reason
	case a.Achieved >= policy.Encrypted:
		return policy.ReasonUnset
	}
	for i := len(a.Trace) - 1; i >= 0; i-- {
		if t := &a.Trace[i]; t.Reason.MayLower() {
			return t.Reason
		}
	}
	return policy.ReasonUnset
}

// outcome says what became of the recipients; word is the worst of it.
func outcome(delivered, deferred, bounced int) (word, text string) {
	add := func(n int, what string) {
		if n == 0 {
			return
		}
		word = what
		if text != "" {
			text += ", "
		}
		if n > 1 || n != delivered+deferred+bounced {
			what = strconv.Itoa(n) + " " + what
		}
		text += what
	}
	add(delivered, "delivered")
	add(deferred, "deferred")
	add(bounced, "bounced")
	if word == "" {
		return "deferred", "nothing tried"
	}
	return word, text
}

// session says what the last session was like.
func session(a *relay.Attempt) string {
	e := a.Evidence
	text := e.VersionName()
	if text == "" {
		return ""
	}
	if e.Route != policy.RouteNone {
		text += ", route " + e.Route.String()
	}
	if e.Peer != policy.PeerNone {
		text += ", peer " + e.Peer.String()
	}
	if a.Reused {
		text += ", session reused"
	}
	return text
}

func stepWords(t policy.Tried) string {
	text := fmt.Sprintf("%s, %s", t.Host, t.Rung)
	if t.Level != policy.Unset {
		text += ": reached " + t.Level.String()
	}
	if t.Reason != policy.ReasonUnset {
		text += ": " + t.Reason.English()
	}
	return text + fmt.Sprintf(" (%d ms)", t.Millis)
}

// span writes a duration with its largest unit.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	}
}

// size writes octets with a binary unit.
func size(n int64) string {
	f, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f < 1024 {
			break
		}
		f, unit = f/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}
