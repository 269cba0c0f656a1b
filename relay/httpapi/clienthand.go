package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Act does the verb to what matches and returns how many there were. The zero
// filter matches everything: the caller has asked before.
func (c *Client) Act(ctx context.Context, a queue.Action, f queue.Filter) (int, error) {
	q := query(f)
	if a.DryRun {
		q.Set("dry_run", strconv.FormatBool(true))
	}
	m, err := fetch[matched](ctx, c, http.MethodPost, verbPath(a.Verb, f, q))
	if a.DryRun {
		return m.Matched, err
	}
	return m.Done, err
}

func verbPath(v queue.Verb, f queue.Filter, q url.Values) string {
	if meansAll(f, true) == nil {
		q.Set("all", "true")
	}
	return "/admin/queue/" + url.PathEscape(string(v)) + "?" + q.Encode()
}

// Do is Act with news of the work, by o.Tell. When ctx ends the relay stops after what it
// has in hand; Progress is then the last that was heard, and the journal knows better. Who
// asks is for the relay to see: o.By is not sent.
func (c *Client) Do(ctx context.Context, o queue.Order) (queue.Progress, error) {
	if o.DryRun {
		s, err := c.Survey(ctx, queue.Inquiry{Filter: o.Filter, Verb: o.Verb})
		return queue.Progress{Matched: s.Envelopes}, err
	}
	q := query(o.Filter)
	q.Set("progress", strconv.FormatBool(true))
	var last queue.Progress
	body, err := c.do(ctx, http.MethodPost, verbPath(o.Verb, o.Filter, q))
	if err != nil {
		return last, err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var t told
		if err := dec.Decode(&t); err != nil {
			return last, errors.Join(ctx.Err(), fmt.Errorf("the relay broke off: %w", err))
		}
		last = t.Progress
		switch {
		case t.Error != nil:
			return last, t.Error
		case t.End:
			return last, nil
		case o.Tell != nil:
			o.Tell(last)
		}
	}
}

// Survey counts what matches.
func (c *Client) Survey(ctx context.Context, in queue.Inquiry) (queue.Survey, error) {
	q := query(in.Filter)
	if in.By != "" {
		q.Set("by", in.By)
	}
	if in.Verb != "" {
		q.Set("verb", string(in.Verb))
	}
	if in.Top != 0 {
		q.Set("top", strconv.Itoa(in.Top))
	}
	s, err := fetch[counted](ctx, c, http.MethodGet, "/admin/queue/summary?"+q.Encode())
	return s.Survey, err
}

// Suspensions are those that are in force.
func (c *Client) Suspensions(ctx context.Context) ([]queue.Suspension, error) {
	return fetch[[]queue.Suspension](ctx, c, http.MethodGet, "/admin/queue/suspensions")
}

// Suspend keeps mail to a destination from being tried. Of the suspension, target, reason and
// until go over. It returns the suspension as it is in force.
func (c *Client) Suspend(ctx context.Context, s queue.Suspension) (queue.Suspension, error) {
	q := target(s.Target)
	if s.Reason != "" {
		q.Set("reason", s.Reason)
	}
	if !s.Until.IsZero() {
		q.Set("until", s.Until.Format(time.RFC3339Nano))
	}
	return fetch[queue.Suspension](ctx, c, http.MethodPost, "/admin/queue/suspend?"+q.Encode())
}

// Resume ends the suspension of a target, all of them for queue.Everything, and returns
// those that it ended.
func (c *Client) Resume(ctx context.Context, what string) ([]queue.Suspension, error) {
	return fetch[[]queue.Suspension](ctx, c, http.MethodPost, "/admin/queue/resume?"+target(what).Encode())
}

func target(what string) url.Values {
	if what == queue.Everything {
		return url.Values{"all": {"true"}}
	}
	return url.Values{"domain": {what}}
}

// fetch sends a request and reads its answer, one JSON value.
func fetch[T any](ctx context.Context, c *Client, method, path string) (v T, err error) {
	body, err := c.do(ctx, method, path)
	if err != nil {
		return v, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&v); err != nil {
		return v, fmt.Errorf("the relay's answer cannot be read: %w", err)
	}
	return v, nil
}
