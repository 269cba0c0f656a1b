package dsn

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealpost/sealpost/policy"
	"github.com/sealpost/sealpost/queue"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, change := range goldens() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := notice()
			change(&n)
			_, got := compose(t, n)
			checkWire(t, got)
			path := filepath.Join("testdata", name+".eml")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs (run with -update if it should):\n%s", path, got)
			}
		})
	}
}

func goldens() map[string]func(*queue.Notice) {
	return map[string]func(*queue.Notice){
		"failed": func(n *queue.Notice) {
			n.Message.EnvelopeID, n.Message.Ret = "order-4711", "FULL"
			n.Recipients[0].ORcpt = "rfc822;Bob@example.net"
		},
		"expired": func(n *queue.Notice) {
			n.Message.Floor = policy.Verified
			n.Recipients[0].State = queue.Expired
			n.Recipients[0].Last = &queue.Outcome{At: noon, Level: policy.Encrypted, Host: "mx1.example.net", Failure: &policy.Failure{
				Reason: policy.CertificateUntrusted, Host: "mx1.example.net",
				Detail: "floor verified, set by the message; the certificate is self-signed",
			}}
			n.Recipients[0].Last.Why = "Wanted level verified or better, asked for by the message. mx1.example.net: nobody trusted vouches for the host's certificate, " +
				"so no more than level encrypted was reached; mx2.example.net: the host does not offer STARTTLS."
			second := n.Recipients[0]
			second.Address.Local, second.Last = "alice.with.a.long.name", nil
			n.Recipients = append(n.Recipients, second)
		},
		"delayed": func(n *queue.Notice) {
			n.Kind, n.WillRetryUntil = queue.NoticeDelayed, noon.Add(4*24*time.Hour+20*time.Hour)
			n.Recipients[0].State = queue.Pending
			n.Recipients[0].Last = &queue.Outcome{At: noon.Add(-time.Minute), Host: "mx1.example.net", Failure: &policy.Failure{Reason: policy.ConnectTimeout, Host: "mx1.example.net"}}
		},
		"relayed": func(n *queue.Notice) {
			n.Kind = queue.NoticeRelayed
			n.Recipients[0].State, n.Recipients[0].Notify = queue.Delivered, queue.NotifySuccess
			n.Recipients[0].Last = &queue.Outcome{Kind: queue.DeliveredNow, At: noon, Host: "mx1.example.net", Level: policy.DANE, Reply: &queue.Reply{Code: 250, Status: "2.6.0", Text: "2.6.0 queued"}}
		},
		"requiretls": func(n *queue.Notice) {
			n.Message.RequireTLS, n.Message.Ret = true, "FULL"
			n.Recipients[0].Last = &queue.Outcome{At: noon, Kind: queue.BouncedNow, Host: "mx1.example.net", Level: policy.DANE, Failure: &policy.Failure{Reason: policy.RequireTLSMissing, Host: "mx1.example.net"}}
		},
		"international": func(n *queue.Notice) {
			n.Message.UTF8, n.Message.Sender = true, queue.Address{Local: "лавка", Domain: "example.com"}
			n.Recipients[0].Address = queue.Address{Local: "бобр", Domain: "example.net"}
			n.Original = []byte("Subject: Отзыв\r\n\r\nx\r\n")
		},
	}
}

// TestPython has another program read the golden files.
func TestPython(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) != len(goldens()) {
		t.Fatalf("%d golden files, %v: want %d", len(files), err, len(goldens()))
	}
	out, err := exec.Command(python, append([]string{"testdata/check.py"}, files...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
