package policytest_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy/policytest"
)

const stsPolicy = "version: STSv1\nmode: testing\nmx: mx.d.example\nmax_age: 86400\n"

func startSTS(t *testing.T) (*policytest.STSHost, *policytest.CA) {
	t.Helper()
	ca := policytest.NewCA()
	h, err := policytest.StartSTS(t.Context(), ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, ca
}

// get asks the host for the domain's policy, with no certainty but the CA.
func get(t *testing.T, h *policytest.STSHost, ca *policytest.CA, path string) (*http.Response, string, error) {
	t.Helper()
	tr := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true,
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: "mta-sts.d.example"},
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+h.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "mta-sts.d.example"
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func TestSTSHost(t *testing.T) {
	t.Parallel()
	h, ca := startSTS(t)
	if resp, _, err := get(t, h, ca, policytest.STSPath); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("without a policy: %v", err)
	}
	h.Set("D.example.", stsPolicy)
	resp, body, err := get(t, h, ca, policytest.STSPath)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/plain" || body != stsPolicy {
		t.Errorf("%v, %q", err, body)
	}
	if _, _, err := get(t, h, ca, "/elsewhere.txt"); err != nil {
		t.Error(err)
	}
	if h.Count("d.example") != 2 || h.Strays("d.example") != 1 || h.Handshakes("d.example") != 3 || h.Count("e.example") != 0 {
		t.Errorf("%d requests, %d strays, %d handshakes", h.Count("d.example"), h.Strays("d.example"), h.Handshakes("d.example"))
	}
	if err := h.Await(t.Context(), "d.example", 2); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if h.Await(ctx, "d.example", 3) == nil {
		t.Error("waits for what has not been, and says that it was")
	}
}

// A policy that is filled up is one still, to the octet.
func TestSTSSizes(t *testing.T) {
	t.Parallel()
	h, ca := startSTS(t)
	for fault, size := range map[policytest.STSFault]int{policytest.STSFull: 64 << 10, policytest.STSTooLarge: 64<<10 + 1} {
		h.SetFault("d.example", stsPolicy, fault)
		_, body, err := get(t, h, ca, policytest.STSPath)
		if err != nil || len(body) != size || !strings.HasPrefix(body, stsPolicy) || !strings.HasSuffix(body, "x\n") {
			t.Errorf("%d octets, %v", len(body), err)
		}
	}
}

// Hold keeps an answer back until it is released; Close lets those go that are held.
func TestSTSHold(t *testing.T) {
	t.Parallel()
	h, ca := startSTS(t)
	h.Set("d.example", stsPolicy)
	release := h.Hold("d.example")
	done := make(chan string, 1)
	go func() {
		_, body, err := get(t, h, ca, policytest.STSPath)
		if err != nil {
			t.Error(err)
		}
		done <- body
	}()
	if err := h.Await(t.Context(), "d.example", 1); err != nil {
		t.Fatal(err)
	}
	select {
	case body := <-done:
		t.Errorf("not held: %q", body)
	default:
	}
	release()
	if body := <-done; body != stsPolicy {
		t.Errorf("%q", body)
	}
	if _, body, err := get(t, h, ca, policytest.STSPath); err != nil || body != stsPolicy {
		t.Errorf("after the release: %q, %v", body, err)
	}
}
