"""Reads delivery status notifications with Python's email package and complains."""
import email
import email.policy
import sys

bad = 0


def complain(name, what):
    global bad
    bad += 1
    print(f"{name}: {what}")


def check(name):
    with open(name, "rb") as f:
        m = email.message_from_binary_file(f, policy=email.policy.SMTPUTF8)
    for p in m.walk():
        if p.defects:
            complain(name, f"{p.get_content_type()}: {p.defects}")
        for field, value in p.items():
            # The package knows UTF-8 addresses (RFC 6532) only as a defect.
            if getattr(value, "defects", None) and str(value).isascii():
                complain(name, f"{field}: {value.defects}")
    if m.get_content_type() != "multipart/report":
        complain(name, m.get_content_type())
    if m.get_param("report-type") != "delivery-status":
        complain(name, "report-type")
    if m["Auto-Submitted"] != "auto-replied":
        complain(name, "Auto-Submitted")
    parts = m.get_payload()
    if len(parts) != 3:
        complain(name, f"{len(parts)} parts")
    if parts[0].get_content_type() != "text/plain":
        complain(name, parts[0].get_content_type())
    if "This is the mail relay at" not in parts[0].get_content():
        complain(name, "text part")
    if parts[1].get_content_type() == "message/delivery-status":
        groups = parts[1].get_payload()
        if "Reporting-MTA" not in groups[0]:
            complain(name, "Reporting-MTA")
        for g in groups[1:]:
            for field in ("Final-Recipient", "Action", "Status"):
                if field not in g:
                    complain(name, field)


for n in sys.argv[1:]:
    check(n)
sys.exit(1 if bad else 0)
