package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/sealpost/sealpost/queue"
)

// Backup is what a backup holds.
type Backup struct {
	Dir     string    `json:"dir"`
	Created time.Time `json:"created"`
	Files   int       `json:"files"`
	Octets  int64     `json:"octets"`
	// Keys says where the keys are that open it.
	Keys string `json:"keys"`
}

// backup has a backup written into a directory of this machine: ?dir=, from the root. It is
// on the socket only, because its caller writes with the relay's rights.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	dir := q.Get("dir")
	if err := onlyKeys(q, "dir"); err != nil {
		writeProblem(w, problem(http.StatusBadRequest, err.Error()))
		return
	}
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		writeProblem(w, problem(http.StatusBadRequest, fmt.Sprintf("dir %.200q is no path from the root: give one such as /backup/2026-12-24", dir)))
		return
	}
	if err := patient(http.NewResponseController(w), time.Time{}); err != nil {
		s.fail(w, r, err)
		return
	}
	b, err := s.o.Backup(r.Context(), dir)
	note := queue.OperatorAction{Verb: "backup", By: by(r), Target: dir}
	if err != nil {
		note.Failed = err.Error()
	}
	if s.o.Queue != nil {
		if e := s.o.Queue.Note(context.WithoutCancel(r.Context()), note); e != nil {
			s.log.Error("http: journal", "error", e)
		}
	}
	s.log.Info("queue: backup", "dir", dir, "octets", b.Octets, "by", note.By, "failed", note.Failed)
	if err != nil {
		// Who may come here owns the machine's files: the text is for them.
		writeProblem(w, problem(http.StatusConflict, err.Error()))
		return
	}
	writeJSON(w, b)
}

// Backup has the running relay write a backup of its queue into a directory, by a path from
// the root, that is empty or not there yet.
func (c *Client) Backup(ctx context.Context, dir string) (Backup, error) {
	return fetch[Backup](ctx, c, http.MethodPost, "/admin/backup?"+url.Values{"dir": {dir}}.Encode())
}
