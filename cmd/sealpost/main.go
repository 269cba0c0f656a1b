// Command sealpost is a TLS-enforcing SMTP relay: applications hand it mail, and it
// delivers each message over the strongest protection that the receivers support,
// never below the floor that operator, domain or message ask for.
//
// This package is wiring only: one file per command. Everything that decides or
// does lives in the rooms below (see ARCHITECTURE.md).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// Exit codes, fixed: people script against them.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitStorage = 3
	exitConfig  = 64
)

// cli is the command line, read by kong.
type cli struct {
	Serve       serveCmd       `cmd:"" help:"Run the relay."`
	Demo        demoCmd        `cmd:"" help:"Run a private internet on loopback: relay, signed DNS, receivers of every kind, sample invitations."`
	CheckConfig checkConfigCmd `cmd:"" name:"check-config" help:"Validate a configuration file."`
	Explain     explainCmd     `cmd:"" help:"Say how mail to a domain is protected, and why."`
	Queue       queueCmd       `cmd:"" help:"Look at the queue of a running relay, and act on it."`
	Audit       auditCmd       `cmd:"" help:"Who was sent what, and how well protected; prove that the journal is whole."`
	Memory      memoryCmd      `cmd:"" help:"Look at what a running relay remembers of hosts and MTA-STS policies, and make it forget."`
	Export      exportCmd      `cmd:"" help:"Show what is held of a person: waiting mail and the journal."`
	Erase       eraseCmd       `cmd:"" help:"Remove a person, as recipient and as sender, from queue and journal, and destroy what decrypts it."`
	Keys        keysCmd        `cmd:"" help:"Keys of the encryption at rest."`
	User        userCmd        `cmd:"" help:"Credentials of applications."`
	Healthcheck healthCmd      `cmd:"" help:"Ask a running relay whether it is ready (for containers)."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// exitError carries an exit code. A quiet one has said already what is wrong.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// streams are what a command reads and writes: its process's, or a test's.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// run carries out one command line and returns its exit code.
func run(ctx context.Context, args []string, s streams) int {
	var c cli
	code := -1
	parser, err := kong.New(&c,
		kong.Name("sealpost"),
		kong.Description("A TLS-enforcing SMTP relay."),
		kong.UsageOnError(),
		kong.Writers(s.out, s.err),
		kong.Exit(func(n int) { code = n }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(s),
	)
	if err != nil {
		fmt.Fprintln(s.err, "sealpost:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	if code >= 0 { // --help
		return code
	}
	if err != nil {
		fmt.Fprintf(s.err, "sealpost: %v\nTry 'sealpost --help'.\n", err)
		return exitUsage
	}
	return exitCode(parsed.Run(), s.err)
}

func exitCode(err error, w io.Writer) int {
	if err == nil {
		return 0
	}
	var e *exitError
	if errors.As(err, &e) {
		fmt.Fprintln(w, e.err)
		return e.code
	}
	fmt.Fprintln(w, "sealpost:", err)
	return exitFailed
}
