package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/sealpost/sealpost/queue"
)

// maxProblem bounds what is read of an error answer, in octets.
const maxProblem = 64 << 10

// ErrNotRunning says that nobody answers on the socket.
var ErrNotRunning = errors.New("the relay is not running (start it with: sealpost serve)")

// Client speaks to a running relay over its admin socket. It is safe for
// concurrent use. Its errors are *[Problem] when the relay said no.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the relay whose admin socket is at path.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{socket: path, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// List calls fn for each envelope that matches, as they come.
func (c *Client) List(ctx context.Context, f queue.Filter, fn func(queue.Entry) error) error {
	return each(ctx, c, "/admin/queue?"+query(f).Encode(), func(e entry) error { return fn(e.entry()) })
}

// Show returns all envelopes of a message; queue.ErrNotFound when there is none.
func (c *Client) Show(ctx context.Context, id queue.ID) ([]queue.Entry, error) {
	body, err := c.do(ctx, http.MethodGet, "/admin/queue/"+url.PathEscape(string(id)))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var list []entry
	if err := json.NewDecoder(body).Decode(&list); err != nil {
		return nil, fmt.Errorf("the relay's answer cannot be read: %w", err)
	}
	entries := make([]queue.Entry, len(list))
	for i, e := range list {
		entries[i] = e.entry()
	}
	return entries, nil
}

// Attempts calls fn with the latest attempts that the relay remembers, newest
// first, each as its JSON (relay.Attempt); the last ten of one message, unless id is
// empty.
func (c *Client) Attempts(ctx context.Context, id queue.ID, fn func(json.RawMessage) error) error {
	q := url.Values{}
	if id != "" {
		q.Set("msg", string(id))
	}
	return each(ctx, c, "/admin/attempts?"+q.Encode(), fn)
}

// each reads JSON lines one at a time.
func each[T any](ctx context.Context, c *Client, path string, fn func(T) error) error {
	body, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	return lineByLine(body, fn)
}

// lineByLine reads JSON lines to their end, and closes.
func lineByLine[T any](body io.ReadCloser, fn func(T) error) error {
	defer body.Close()
	dec := json.NewDecoder(body)
	for {
		var v T
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the list is not complete: %w", err)
		}
		if err := fn(v); err != nil {
			return err
		}
	}
}

// do sends a request; the caller closes the body.
func (c *Client) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://sealpost"+path, nil)
	if err != nil {
		return nil, err
	}
	return c.exchange(req)
}

// submitForm sends a form; the caller closes the body.
func (c *Client) submitForm(ctx context.Context, path string, form url.Values) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sealpost"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.exchange(req)
}

// exchange sends a request; the caller closes the body.
func (c *Client) exchange(req *http.Request) (io.ReadCloser, error) {
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: nobody answers at %s", ErrNotRunning, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the admin socket %s belongs to another user: run this as the relay's user", c.socket)
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusOK:
		return resp.Body, nil
	}
	defer resp.Body.Close()
	p := &Problem{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(p); err != nil || p.Status == 0 {
		p = problem(resp.StatusCode, "")
	}
	return nil, p
}
