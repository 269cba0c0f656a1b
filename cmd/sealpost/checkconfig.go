package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sealpost/sealpost/config"
)

type checkConfigCmd struct {
	File  string `arg:"" optional:"" help:"The file; none: the defaults."`
	Print bool   `help:"Print the effective configuration."`
}

// Run validates a file: all its mistakes at once, exit code 64.
func (c *checkConfigCmd) Run(s streams) error {
	cfg, err := loadConfig(c.File, s.err)
	if err != nil {
		return err
	}
	if c.Print {
		return cfg.Print(s.out)
	}
	name := c.File
	if name == "" {
		name = "the default configuration"
	}
	_, err = fmt.Fprintf(s.out, "%s is valid\n", name)
	return err
}

// loadConfig reads a configuration and prints what is to be known about it. A
// refused one is an error with exit code 64 that lists every mistake.
func loadConfig(path string, w io.Writer) (*config.Config, error) {
	cfg, err := config.Load(path, os.Environ())
	var bad config.Errors
	switch {
	case errors.As(err, &bad):
		return nil, &exitError{exitConfig, bad}
	case err != nil:
		return nil, err
	}
	for _, n := range cfg.Notes {
		fmt.Fprintln(w, "note:", n)
	}
	return cfg, nil
}
