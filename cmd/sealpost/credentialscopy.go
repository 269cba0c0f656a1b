package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sealpost/sealpost/config"
)

// The file of credentials ends with a sum of what is above, and stands beside a copy: one wrong
// octet in a hash would keep an application from submitting, and nobody would know why. Who edits
// the file takes the last line out.

// sumLine begins the last line.
const sumLine = "# sum of the lines above (take this line out when you edit the file): "

// credentialsCopy is the copy of credentialsFile.
func credentialsCopy(cfg *config.Config) string {
	return filepath.Join(cfg.Server.DataDir, "credentials.copy")
}

func sealText(text string) string {
	return fmt.Sprintf("%s%s%x\n", text, sumLine, sha256.Sum256([]byte(text)))
}

// isWhole reports whether a text is as sealText made it.
func isWhole(text []byte) bool {
	at := bytes.LastIndex(text, []byte(sumLine))
	return at >= 0 && string(text) == sealText(string(text[:at]))
}

// ownCredentials reads the file of `sealpost user`; none is an empty list. doubt says what is
// wrong with it when it can be read all the same: then its copy is used, or, when it looks like an
// edit by hand, what it says.
func ownCredentials(cfg *config.Config) (list []config.Credential, doubt string, err error) {
	path := credentialsFile(cfg)
	text, err := os.ReadFile(path)
	spare, spareErr := os.ReadFile(credentialsCopy(cfg))
	switch {
	case errors.Is(err, fs.ErrNotExist) && spareErr == nil && isWhole(spare):
		text, doubt = spare, path+" is missing: its copy "+credentialsCopy(cfg)+" is used; `sealpost user passwd` writes it anew"
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", nil
	case err != nil:
		return nil, "", err
	case isWhole(text):
		if spareErr == nil && !bytes.Equal(text, spare) {
			doubt = credentialsCopy(cfg) + ", the copy of " + path + ", is damaged or old: `sealpost user passwd` writes it anew; look at the disk"
		}
	case bytes.Contains(text, []byte(sumLine)) || spareErr == nil && (differ(text, spare) == 1 || isCut(text, spare)):
		text, doubt = doubted(cfg, text, spare)
	}
	c, err := config.Parse(path, text, nil)
	if err != nil {
		return nil, doubt, err
	}
	return c.Credentials, doubt, nil
}

// isCut reports whether a text is what a crash or a full disk leaves of another one: nothing, zeros, or
// its beginning up to the middle of an entry.
func isCut(text, whole []byte) bool {
	if len(bytes.Trim(text, "\x00")) == 0 {
		return true
	}
	if !bytes.HasPrefix(whole, text) {
		return false
	}
	_, err := config.Parse("", text, nil)
	return err != nil
}

// doubted chooses between a file that is not as it was written and its copy.
func doubted(cfg *config.Config, text, spare []byte) (use []byte, doubt string) {
	path, edit := credentialsFile(cfg), " (should it be an edit of yours: take its last line out, and it counts)"
	use = text
	doubt = path + " is damaged, or was edited with its last line left in: it is used as it is; applications that cannot submit need `sealpost user passwd`"
	if !isWhole(spare) {
		return use, doubt + "; its copy " + credentialsCopy(cfg) + " is missing or damaged, too"
	}
	_, err := config.Parse(path, text, nil)
	switch n := differ(text, spare); {
	case isCut(text, spare):
		use, doubt = spare, path+" was cut short, or is empty: its copy "+credentialsCopy(cfg)+" is used: `sealpost user passwd` writes both anew; look at the disk"+edit
	case n == 1:
		use, doubt = spare, path+" is damaged, one octet is another than in its copy "+credentialsCopy(cfg)+", which is used: `sealpost user passwd` writes both anew; look at the disk"+edit
	case err != nil:
		use, doubt = spare, path+" is damaged, and cannot be read ("+strings.ReplaceAll(err.Error(), "\n", "; ")+"): its copy "+credentialsCopy(cfg)+" is used"+edit
	}
	return use, doubt
}

// differ counts the octets in which two texts differ; -1 when one is longer.
func differ(a, b []byte) int {
	if len(a) != len(b) {
		return -1
	}
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}
