package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

// RememberedHost is what the relay remembers of one address family of a host.
type RememberedHost struct {
	Host   policy.Domain `json:"host"`
	Family string        `json:"family"` // "ipv4" or "ipv6"
	policy.Memory
}

// RememberedPolicy is a domain's MTA-STS policy that the relay has cached.
type RememberedPolicy struct {
	Domain policy.Domain `json:"domain"`
	policy.STS
}

// HostMemory is what the admin API needs of the memory of hosts. List calls fn for each
// entry, in any order, and returns its error; Forget reports whether there was something
// to forget. Calls are concurrent.
type HostMemory interface {
	List(ctx context.Context, fn func(RememberedHost) error) error
	Forget(ctx context.Context, host policy.Domain) (bool, error)
}

// PolicyMemory is the same for cached MTA-STS policies.
type PolicyMemory interface {
	List(ctx context.Context, fn func(RememberedPolicy) error) error
	Forget(ctx context.Context, domain policy.Domain) (bool, error)
}

// Forgotten is the answer to forgetting: what there was under the name.
type Forgotten struct {
	Name   policy.Domain `json:"name"`
	Host   bool          `json:"host"`
	Policy bool          `json:"policy"`
}

func notAvailable(what string) *Problem {
	return problem(http.StatusNotFound, what+" is not available here")
}

// listHosts streams what is remembered of hosts.
func (s *Server) listHosts(w http.ResponseWriter, r *http.Request) {
	if s.o.HostMemory == nil {
		writeProblem(w, notAvailable("the memory of hosts"))
		return
	}
	out := newStream(w)
	s.end(w, r, out, s.o.HostMemory.List(r.Context(), func(h RememberedHost) error { return out.write(h) }))
}

// listPolicies streams the cached MTA-STS policies.
func (s *Server) listPolicies(w http.ResponseWriter, r *http.Request) {
	if s.o.PolicyMemory == nil {
		writeProblem(w, notAvailable("the cache of MTA-STS policies"))
		return
	}
	out := newStream(w)
	s.end(w, r, out, s.o.PolicyMemory.List(r.Context(), func(p RememberedPolicy) error { return out.write(p) }))
}

// forget drops what is remembered under a name, of the host and of the domain.
func (s *Server) forget(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if err := onlyKeys(q, "name"); err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	name, err := queue.ParseDomain(q.Get("name"))
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, "name: "+err.Error()))
		return
	}
	if s.o.HostMemory == nil && s.o.PolicyMemory == nil {
		writeProblem(w, notAvailable("the memory"))
		return
	}
	f := Forgotten{Name: name}
	if s.o.HostMemory != nil {
		f.Host, err = s.o.HostMemory.Forget(r.Context(), name)
	}
	if s.o.PolicyMemory != nil && err == nil {
		f.Policy, err = s.o.PolicyMemory.Forget(r.Context(), name)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.log.Info("memory: operator's hand", "verb", "forget", "name", string(name), "host", f.Host, "policy", f.Policy)
	writeJSON(w, f)
}

// RememberedHosts calls fn for each host that the relay remembers, as they come.
func (c *Client) RememberedHosts(ctx context.Context, fn func(RememberedHost) error) error {
	return each(ctx, c, "/admin/memory/hosts", fn)
}

// RememberedPolicies calls fn for each MTA-STS policy that the relay has cached.
func (c *Client) RememberedPolicies(ctx context.Context, fn func(RememberedPolicy) error) error {
	return each(ctx, c, "/admin/memory/policies", fn)
}

// Forget drops what the relay remembers of a host, or of a domain's policy.
func (c *Client) Forget(ctx context.Context, name policy.Domain) (Forgotten, error) {
	var f Forgotten
	body, err := c.do(ctx, http.MethodPost, "/admin/memory/forget?"+url.Values{"name": {string(name)}}.Encode())
	if err != nil {
		return f, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&f); err != nil {
		return f, fmt.Errorf("the relay's answer cannot be read: %w", err)
	}
	return f, nil
}
