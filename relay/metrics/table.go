package metrics

import (
	"fmt"
	"io"
	"strings"
)

// Names of the metrics, without the prefix.
const (
	nameDelivered     = "delivered_recipients_total"
	nameRecipients    = "recipients_total"
	nameDowngrades    = "downgrades_total"
	nameRefusals      = "refusals_total"
	nameHolds         = "downgrade_holds"
	nameOverrides     = "overrides_total"
	nameOutage        = "resolver_outage"
	nameTLSConns      = "tls_connections_total"
	nameTLSFailures   = "tls_failures_total"
	nameLookups       = "policy_lookups_total"
	nameDNSQueries    = "dns_queries_total"
	nameDNSTime       = "dns_query_seconds"
	nameDNSSEC        = "dnssec_available"
	nameQueueMessages = "queue_messages"
	nameQueueBytes    = "queue_bytes"
	nameQueueOldest   = "queue_oldest_seconds"
	nameSuspensions   = "queue_suspensions"
	nameAccepted      = "accepted_messages_total"
	nameAcceptedBytes = "accepted_bytes_total"
	nameRejected      = "rejected_messages_total"
	nameDeliveryTime  = "time_to_delivery_seconds"
	nameAttemptTime   = "attempt_seconds"
	nameConnsOut      = "smtp_connections"
	nameReused        = "smtp_connections_reused_total"
	nameOpenFailures  = "open_failures_total"
	nameThrottled     = "throttled_hosts"
	nameThrottling    = "throttle_events_total"
	nameThrottleWait  = "throttle_wait_seconds"
	nameConnsIn       = "submission_connections"
	nameHandshakes    = "submission_handshake_failures_total"
	nameAuth          = "auth_attempts_total"
	nameBounces       = "bounces_total"
	nameNotices       = "notices_total"
	nameStorageFree   = "storage_free_bytes"
	nameIntakePaused  = "intake_paused"
	nameMissed        = "journal_missed_entries_total"
	nameDamaged       = "sealed_damaged_total"
	nameKeysOverdue   = "keys_overdue_seconds"
	nameCertExpiry    = "certificate_expiry_timestamp_seconds"
	nameReload        = "config_reload_success_timestamp_seconds"
	nameBuild         = "build_info"
)

const prefix = "sealpost_"

// row describes one metric. Its labels are axes; those of build_info are free words.
type row struct {
	name string
	kind string // counter, gauge or histogram
	axes []axis
	help string
}

// table is every metric there is, in the order of the reference. The labels are
// what the submission dock calls its own things.
func table(l Labels) []row {
	return []row{
		{nameDelivered, "counter", []axis{levels(), bases()}, "Recipients delivered, by the level that was achieved and by who set the floor."},
		{nameRecipients, "counter", []axis{outcomes()}, "What became of recipients, each time that something did; deferred counts once per attempt."},
		{nameDowngrades, "counter", []axis{fromLevels(), toLevels(), loweringReasons()}, "Steps down the fallback ladder at a host, and deliveries weaker than what was tried first."},
		{nameRefusals, "counter", []axis{bases(), protectionReasons()}, "Attempts that kept mail back because the protection was not good enough, by who set the floor."},
		{nameHolds, "gauge", nil, "Hosts (address families of hosts) that were good for TLS, offer less now and are held at encrypted."},
		{nameOverrides, "counter", []axis{promises()}, "Uses of a rule that sets a domain's promise aside (policy.rule.ignore), by host and attempt."},
		{nameTLSConns, "counter", []axis{directions(), versions(), exchanges(), ciphers()}, "TLS handshakes that succeeded."},
		{nameTLSFailures, "counter", []axis{bases(), reportTypes()}, "Steps that failed for want of protection: RFC 8460 result types, and the relay's own words where there is none."},
		{nameLookups, "counter", []axis{sources(), results()}, "Lookups of what a policy is made of."},
		{nameDNSQueries, "counter", []axis{dnsOutcomes()}, "Queries to DNS resolvers, retries and other servers counted apart."},
		{nameDNSTime, "histogram", []axis{dnsOutcomes()}, "Time that a query to a DNS resolver took."},
		{nameDNSSEC, "gauge", nil, "1 when DNSSEC answers can be believed, else 0: no new dane delivery then."},
		{nameOutage, "gauge", nil, "1 while the DNS resolver is down and deliveries are paused, else 0."},
		{nameQueueMessages, "gauge", []axis{states()}, "Envelopes in the queue (a message's recipients at one domain)."},
		{nameQueueBytes, "gauge", []axis{states()}, "Octets of the messages in the queue."},
		{nameQueueOldest, "gauge", []axis{states()}, "Age of the oldest message in the queue, by its acceptance; 0 when there is none."},
		{nameSuspensions, "gauge", nil, "Suspensions in force: destinations, or all mail, that the operator keeps from being tried."},
		{nameAccepted, "counter", []axis{closed("listener", l.Listeners...)}, "Messages accepted from clients: on disk, answered with 250."},
		{nameAcceptedBytes, "counter", []axis{closed("listener", l.Listeners...)}, "Octets of the messages accepted from clients."},
		{nameRejected, "counter", []axis{closed("reason", l.Rejections...)}, "Senders, recipients and contents refused at submission."},
		{nameDeliveryTime, "histogram", []axis{levels()}, "Time from acceptance to delivery of a recipient, by the level that was achieved."},
		{nameAttemptTime, "histogram", []axis{phases()}, "Time that a delivery attempt spent in each phase; open is connect and tls of all its steps, or the wait for a pooled session."},
		{nameConnsOut, "gauge", nil, "Open connections to mail exchangers, idle ones in the pool included."},
		{nameReused, "counter", nil, "Sessions taken from the pool instead of opened."},
		{nameOpenFailures, "counter", []axis{allReasons()}, "Sessions with mail exchangers that could not be opened."},
		{nameThrottled, "gauge", nil, "Hosts (addresses, or configured providers) that get less now than the configuration allows, because they asked for it or could not be reached."},
		{nameThrottling, "counter", []axis{throttleKinds()}, "Replies by which hosts ask for less: busy (no room for anybody), connections (too many of ours), rate (too many messages of ours)."},
		{nameThrottleWait, "histogram", nil, "Time that a message waited for its turn at a host, or was sent back to the queue for."},
		{nameConnsIn, "gauge", nil, "Open connections of submitting clients."},
		{nameHandshakes, "counter", nil, "TLS handshakes of submitting clients that failed."},
		{nameAuth, "counter", []axis{closed("mechanism", l.Mechanisms...), closed("result", l.AuthResults...)}, "Authentication attempts of submitting clients."},
		{nameBounces, "counter", []axis{bounceKinds(), allReasons()}, "Recipients given up: refused for good (permanent), for want of protection (protection), or out of time (expired)."},
		{nameNotices, "counter", []axis{noticeKinds()}, "Delivery status notifications queued (RFC 3464)."},
		{nameStorageFree, "gauge", nil, "Free octets on the disk that holds the queue."},
		{nameIntakePaused, "gauge", nil, "1 when new mail is refused for now (452), else 0; deliveries go on."},
		{nameMissed, "counter", nil, "Journal entries that retention removed before a reader (reports, events) came to them."},
		{nameDamaged, "counter", []axis{closed("thing", "record", "row", "body", "entry", "cell")}, "Sealed things on disk that did not open when they were wanted: changed, or without their key."},
		{nameKeysOverdue, "gauge", nil, "How far the destruction of keys of messages that are gone is behind queue.encryption.erase_after; 0 when it is not."},
		{nameCertExpiry, "gauge", nil, "When the first of the listeners' certificates expires; 0 when there is none."},
		{nameReload, "gauge", nil, "When the configuration was last loaded with success."},
		{nameBuild, "gauge", []axis{{label: "version"}, {label: "revision"}, {label: "goversion"}}, "Always 1; the labels say what runs."},
	}
}

// Reference writes the documentation of all metrics in Markdown: docs/metrics.md.
func Reference(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Metrics\n\n" +
		"Generated from `relay/metrics`; do not edit. Every label is a closed set: what is not in it is `other`,\n" +
		"and no label ever holds a domain, an address or a remote text. Every series exists from the start, at 0.\n" +
		"Histograms have classic and native buckets. The usual `go_*` and `process_*` metrics are there too.\n\n" +
		"| metric | type | labels | meaning |\n|---|---|---|---|\n")
	rows := table(Labels{}.withDefaults())
	for _, r := range rows {
		fmt.Fprintf(&b, "| `%s%s` | %s | %s | %s |\n", prefix, r.name, r.kind, labelWords(r), r.help)
	}
	b.WriteString("\n## Values of the labels\n")
	for _, r := range rows {
		for _, a := range r.axes {
			if len(a.words) > 0 && a.label != "listener" {
				fmt.Fprintf(&b, "\n- `%s%s` `%s`: %s\n", prefix, r.name, a.label, strings.Join(a.words, ", "))
			}
		}
	}
	b.WriteString("\n`listener` is the listener's address as configured.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func labelWords(r row) string {
	words := make([]string, len(r.axes))
	for i, a := range r.axes {
		words[i] = "`" + a.label + "`"
	}
	return strings.Join(words, ", ")
}
