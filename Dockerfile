# idkeep in two images, both without a shell and as user 65532:
#
#   docker build -t idkeep .                                     identities
#   docker build -t idkeep-postgres --target postgres .          the same with `pg_dump` and `psql`, for backups
#
# Images are named by tag; give digests where builds must repeat: --build-arg BASE=…@sha256:…
ARG RUST=docker.io/library/rust:1.95-bookworm
ARG DEBIAN=docker.io/library/debian:bookworm-slim
# With a C library and not static: names are then resolved as everywhere else (nsswitch.conf, search domains). All three
# are of one Debian, so what is built in one has its libraries in the other.
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST} AS compile
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin idkeep \
 && install -D target/release/idkeep /out/idkeep \
 && install -d -m 0700 /out/state/idkeep

# The clients of the newest major version, which dump every server that the network uses. From the PostgreSQL project's
# own repository, since Debian 12 has 15; its key comes with a signed package of Debian's. Not the official `postgres`
# image as a base: that one carries the server and a shell.
FROM ${DEBIAN} AS postgresql
ARG POSTGRES_MAJOR=18
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends ca-certificates postgresql-common \
 && . /etc/os-release \
 && key=/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc \
 && echo "deb [signed-by=$key] https://apt.postgresql.org/pub/repos/apt $VERSION_CODENAME-pgdg main" \
    > /etc/apt/sources.list.d/pgdg.list \
 && apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends "postgresql-client-$POSTGRES_MAJOR"

# Of all that, two programs and the libraries that they are linked to, but for the C library's, which the base has.
FROM postgresql AS clients
ARG POSTGRES_MAJOR=18
RUN set -eu; bin=/usr/lib/postgresql/$POSTGRES_MAJOR/bin; \
    linked=$(ldd "$bin/pg_dump" "$bin/psql" | sed -n 's|.* => \(/[^ ]*\) .*|\1|p' | sort -u); \
    lib=$(printf '%s\n' "$linked" | sed -n 's|^\(/usr\)\{0,1\}\(/lib/.*\)/libpq\.so.*|/usr\2|p'); \
    install -d /clients/usr/bin "/clients$lib"; \
    install -m 0755 "$bin/pg_dump" "$bin/psql" /clients/usr/bin/; \
    for file in $(printf '%s\n' "$linked" | grep -Ev '/(libc|libm|libdl|librt|libpthread|libresolv)\.so'); do \
        cp -L "$file" "/clients$lib/"; \
    done

FROM ${BASE} AS postgres
LABEL org.opencontainers.image.title="idkeep-postgres" \
      org.opencontainers.image.description="idkeep with the PostgreSQL client tools, for backups" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/idkeep/idkeep"
COPY --from=clients /clients/ /
COPY --from=compile /out/idkeep /usr/local/bin/idkeep
# A volume that is mounted here takes over its owner, so that a `file` store may write to it.
COPY --from=compile --chown=65532:65532 /out/state/ /var/lib/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/idkeep"]

# The last one is what is built when no target is named.
FROM ${BASE} AS idkeep
LABEL org.opencontainers.image.title="idkeep" \
      org.opencontainers.image.description="Keeps a Canton Network validator recoverable" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/idkeep/idkeep"
COPY --from=compile /out/idkeep /usr/local/bin/idkeep
COPY --from=compile --chown=65532:65532 /out/state/ /var/lib/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/idkeep"]
