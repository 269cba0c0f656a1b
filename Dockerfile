# syntax=docker/dockerfile:1
# One static binary in an image with nothing else: no shell, no package manager, not root.
#
#   docker build -t sealpost .
#   docker run -v sealpost:/var/lib/sealpost -v ./etc:/etc/sealpost:ro -p 587:587 sealpost   # etc/: sealpost.toml, tls.crt, tls.key

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /out/sealpost ./cmd/sealpost
# The image's user owns the queue's folder from the start, so that a new volume is writable.
RUN mkdir -p /out/var/lib/sealpost && chown 65532:65532 /out/var/lib/sealpost && chmod 700 /out/var/lib/sealpost

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/sealpost /usr/bin/sealpost
COPY --from=build --chown=65532:65532 /out/var/lib/sealpost /var/lib/sealpost
USER 65532:65532
VOLUME /var/lib/sealpost
# 587 and 465 submission, 8025 metrics, health and status. An unprivileged port range is set by the
# container runtime (net.ipv4.ip_unprivileged_port_start=0 is Docker's default).
EXPOSE 587 465 8025
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/usr/bin/sealpost", "healthcheck"]
ENTRYPOINT ["/usr/bin/sealpost"]
CMD ["serve", "--config", "/etc/sealpost/sealpost.toml"]
