package httpapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/sealpost/sealpost/queue"
)

// Limits of the servers.
const (
	headerLimit   = 5 * time.Second
	requestLimit  = 30 * time.Second
	idleLimit     = time.Minute
	headerBytes   = 64 << 10
	maxConns      = 256
	checkLimit    = 3 * time.Second
	recentOnPage  = 50
	defaultRecent = 200
)

// Queue is what the admin API and the page need of the queue. *queue.Queue is one.
type Queue interface {
	List(ctx context.Context, f queue.Filter, fn func(queue.Entry) error) error
	Show(ctx context.Context, id queue.ID) ([]queue.Entry, error)
	Do(ctx context.Context, o queue.Order) (queue.Progress, error)
	Survey(ctx context.Context, in queue.Inquiry) (queue.Survey, error)
	Suspend(ctx context.Context, s queue.Suspension) (queue.Suspension, error)
	Resume(ctx context.Context, target, by string) ([]queue.Suspension, error)
	Suspensions() []queue.Suspension
	Note(ctx context.Context, a queue.OperatorAction) error
	Stats() queue.Stats
}

var _ Queue = (*queue.Queue)(nil)

// Check is one thing that must be true. Probe returns nil when it is; else an
// error whose text is for the operator, and is shown to whoever may ask: no
// address, no secret. It returns by the context's end; one that does not counts as
// failed.
type Check struct {
	Name  string // "storage", "intake", "listeners": a word or two
	Probe func(context.Context) error
}

// Options of a Server. Queue is needed for the admin API; all else may be left out.
type Options struct {
	Hostname string // of the relay, for the page's title
	Version  string
	Metrics  http.Handler // nil: no /metrics
	Queue    Queue        // nil: no admin API, no queue on the page
	Recorder *Recorder    // nil: no attempts
	// Explainer, HostMemory and PolicyMemory are for the operator's questions; nil: not available.
	Explainer    Explainer
	HostMemory   HostMemory
	PolicyMemory PolicyMemory
	Journal      queue.Prover // checks the journal; nil: not available
	Keys         Keys         // of the encryption at rest; nil: there is none
	// Backup writes a backup of the queue into a directory of this machine; nil: not available.
	Backup  func(ctx context.Context, dir string) (Backup, error)
	Persons Persons // nil: nobody is exported or erased here
	// Live are the checks of /healthz: the loops run. Ready are those of /readyz.
	Live, Ready []Check
	// Warnings is asked for what the page should say first; nil: nothing.
	Warnings func() []string
	// Token opens the admin API over TCP; empty: it is on the socket only.
	Token string
	// Hosts are names under which the TCP side may be asked for although it listens
	// on loopback, beside Hostname: those of a reverse proxy.
	Hosts  []string
	Logger *slog.Logger // nil: discard
}

// Server serves both doors. It is safe for concurrent use.
type Server struct {
	o        Options
	log      *slog.Logger
	page     *page
	token    [sha256.Size]byte // digest of the token
	live     []*runner         // of Options.Live
	probes   []*runner         // of Options.Ready
	started  time.Time
	draining atomic.Bool

	mu      sync.Mutex
	stopped bool
	servers []*http.Server // those that serve
}

// New returns a server that does not serve yet.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		o: o, log: o.Logger, page: newPage(), token: sha256.Sum256([]byte(o.Token)),
		live: runners(o.Live), probes: runners(o.Ready), started: time.Now(),
	}
}

// Handler is the TCP door.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	if s.o.Metrics != nil {
		mux.Handle("GET /metrics", s.o.Metrics)
	}
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /{$}", s.localOnly(http.HandlerFunc(s.showPage)))
	mux.Handle("/admin/", s.withToken(s.admin()))
	return s.guarded(withProblems(mux))
}

// AdminHandler is the door of the unix socket: the admin API without a token.
func (s *Server) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/admin/", s.admin())
	if s.o.Backup != nil {
		mux.HandleFunc("POST /admin/backup", inQuery(s.backup))
	}
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /readyz", s.ready)
	return s.guarded(withProblems(mux))
}

// Serve serves the TCP door on l until Shutdown; then it returns nil. It owns l.
func (s *Server) Serve(l net.Listener) error {
	return s.serve(netutil.LimitListener(l, maxConns), s.Handler())
}

// ServeAdmin serves the admin door on l (see [ListenSocket]) until Shutdown; then
// it returns nil. It owns l.
func (s *Server) ServeAdmin(l net.Listener) error { return s.serve(l, s.AdminHandler()) }

func (s *Server) serve(l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerLimit,
		ReadTimeout:       requestLimit,
		WriteTimeout:      requestLimit,
		IdleTimeout:       idleLimit,
		ConnContext:       withPeer,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          log.New(logLines{s.log}, "", 0),
	}
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return l.Close()
	}
	s.servers = append(s.servers, srv)
	s.mu.Unlock()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Drain makes /readyz say no, so that a load balancer looks elsewhere. Everything
// goes on being served.
func (s *Server) Drain() { s.draining.Store(true) }

// Shutdown ends serving: no new connections, requests in flight end; when ctx is
// done first, they are cut off and its error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.mu.Lock()
	s.stopped = true
	servers := s.servers
	s.mu.Unlock()
	var errs []error
	for _, srv := range servers {
		if err := srv.Shutdown(ctx); err != nil {
			errs = append(errs, err, srv.Close())
		}
	}
	return errors.Join(errs...)
}

// logLines takes what net/http has to say: broken clients, mostly.
type logLines struct{ log *slog.Logger }

func (l logLines) Write(b []byte) (int, error) {
	l.log.Debug("http", "error", string(b))
	return len(b), nil
}
