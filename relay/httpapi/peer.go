package httpapi

import (
	"context"
	"net"
	"net/http"
)

// peerKey is where a connection's context has who is at its other end.
type peerKey struct{}

// withPeer notes who connected.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	who := "token" // nobody acts over TCP without it
	if u, ok := c.(*net.UnixConn); ok {
		who = socketPeer(u)
	}
	return context.WithValue(ctx, peerKey{}, who)
}

// by is who asks, for log and journal.
func by(r *http.Request) string {
	if who, ok := r.Context().Value(peerKey{}).(string); ok {
		return who
	}
	return "unknown"
}
