package main

import "context"

type demoCmd struct {
	Once bool `help:"End when every sample has its outcome."`
}

func (c *demoCmd) Run(ctx context.Context, s streams) error { return nil }
