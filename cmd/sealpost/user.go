package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sealpost/sealpost/config"
	"github.com/sealpost/sealpost/relay/submission"
)

// userCmd keeps the credentials of applications in data_dir/credentials.toml.
type userCmd struct {
	Add    userAddCmd    `cmd:"" help:"Add a credential; its generated password is printed once."`
	Passwd userPasswdCmd `cmd:"" help:"Give a credential a new password."`
	List   userListCmd   `cmd:"" help:"List the credentials."`
}

type userAddCmd struct {
	Name   string   `arg:"" help:"User name of the application."`
	Sender []string `help:"Allowed envelope sender and From domain (@example.com) or address; may be repeated. None: any."`
	Floor  string   `help:"Least protection of its mail, such as encrypted."`
	Rate   string   `help:"Most messages in a time, such as 200/s."`
	userTarget
}

// userTarget is what add and passwd have in common.
type userTarget struct {
	Config        string `help:"Configuration file of the relay." placeholder:"FILE" type:"path"`
	PasswordStdin bool   `help:"Read the password from standard input instead of making one."`
}

// Run adds a credential.
func (c *userAddCmd) Run(s streams) error {
	cfg, own, err := c.open(s)
	if err != nil {
		return err
	}
	named := func(o config.Credential) bool { return o.Name == c.Name }
	if slices.ContainsFunc(append(own, cfg.Credentials...), named) {
		return fmt.Errorf("there is a credential %q already: use `sealpost user passwd`", c.Name)
	}
	cred, err := c.credential()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	return c.finish(s, cfg, cred, false)
}

// credential checks name, senders, floor and rate with the configuration's own
// rules, by way of its text.
func (c *userAddCmd) credential() (config.Credential, error) {
	stand := "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	text := fmt.Sprintf("[[credential]]\nname = %q\npassword_hash = %q\nsenders = [", c.Name, stand)
	for i, a := range c.Sender {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%q", a)
	}
	text += "]\n"
	if c.Floor != "" {
		text += fmt.Sprintf("floor = %q\n", c.Floor)
	}
	if c.Rate != "" {
		text += fmt.Sprintf("rate = %q\n", c.Rate)
	}
	parsed, err := config.Parse("user add", []byte(text), nil)
	if err != nil {
		return config.Credential{}, err
	}
	return parsed.Credentials[0], nil
}

type userPasswdCmd struct {
	Name string `arg:"" help:"User name of the application."`
	userTarget
}

// Run gives a credential a new password.
func (c *userPasswdCmd) Run(s streams) error {
	cfg, own, err := c.open(s)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(own, func(o config.Credential) bool { return o.Name == c.Name })
	if i < 0 {
		return fmt.Errorf("there is no credential %q in %s", c.Name, credentialsFile(cfg))
	}
	return c.finish(s, cfg, own[i], true)
}

func (t *userTarget) open(s streams) (*config.Config, []config.Credential, error) {
	cfg, err := loadConfig(t.Config, io.Discard)
	if err != nil {
		return nil, nil, err
	}
	own, doubt, err := ownCredentials(cfg)
	if doubt != "" {
		fmt.Fprintln(s.err, "note:", doubt)
	}
	return cfg, own, err
}

// finish sets the password, writes the file and prints a password that was made. known: the
// credential is there already.
func (t *userTarget) finish(s streams, cfg *config.Config, cred config.Credential, known bool) error {
	password, err := t.password(s.in)
	if err != nil {
		return err
	}
	if cred.PasswordHash, err = submission.HashPassword(password); err != nil {
		return err
	}
	if cred.SCRAM, err = submission.DeriveSCRAM(password); err != nil {
		cred.SCRAM = ""
		fmt.Fprintln(s.err, "note: no SCRAM for this password:", err)
	}
	if err := putCredential(cfg, cred, known); err != nil {
		return fmt.Errorf("%s: %w", credentialsFile(cfg), err)
	}
	if t.PasswordStdin {
		_, err = fmt.Fprintf(s.out, "credential %s is in %s\n", cred.Name, credentialsFile(cfg))
		return err
	}
	_, err = fmt.Fprintf(s.out, "user:     %s\npassword: %s\nIt is shown once. A running relay takes it within seconds.\n", cred.Name, password)
	return err
}

// password reads one line, or makes 26 characters of 130 random bits.
func (t *userTarget) password(in io.Reader) (string, error) {
	if !t.PasswordStdin {
		return rand.Text(), nil
	}
	line, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if len(line) < 12 {
		return "", &exitError{exitUsage, errors.New("the password has fewer than 12 octets: applications can remember longer ones")}
	}
	return line, nil
}

type userListCmd struct {
	Config string `help:"Configuration file of the relay." placeholder:"FILE" type:"path"`
}

// Run lists the credentials, without their hashes.
func (c *userListCmd) Run(s streams) error {
	cfg, err := loadConfig(c.Config, io.Discard)
	if err != nil {
		return err
	}
	own, doubt, err := ownCredentials(cfg)
	if err != nil {
		return err
	}
	if doubt != "" {
		fmt.Fprintln(s.err, "note:", doubt)
	}
	w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSENDERS\tFLOOR\tRATE\tIN")
	row := func(o config.Credential, where string) {
		senders, floor, rate := strings.Join(o.Senders, " "), "-", o.Rate.String()
		if senders == "" {
			senders = "any"
		}
		if o.Floor != 0 {
			floor = o.Floor.String()
		}
		if rate == "" {
			rate = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", o.Name, senders, floor, rate, where)
	}
	for _, o := range cfg.Credentials {
		row(o, "configuration")
	}
	for _, o := range own {
		row(o, "credentials.toml")
	}
	return w.Flush()
}
