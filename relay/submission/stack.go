package submission

// stackRoom is what a session with its TLS handshake needs of a stack, about.
const stackRoom = 8 << 10

// deepen makes a new goroutine's stack large at once. It would else double step by step while
// it is deep in a handshake, and each step copies and mends every frame: 4.8 % of the
// processor's time of BenchmarkSession, and 1.7 % with it.
//
//go:noinline
func deepen(n int) byte {
	var room [stackRoom]byte
	return room[n%stackRoom]
}
