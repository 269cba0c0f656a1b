package main

// auditCmd answers questions about the journal.
type auditCmd struct {
	Config string `help:"Configuration file of the relay." placeholder:"FILE" type:"path"`

	Verify auditVerifyCmd `cmd:"" help:"Prove that the journal is as it was written, and name the first entry that is not."`
}
