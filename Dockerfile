# The Fargate task: one binary, no shell, no package manager, not root. `make image` builds it and says where to push it.
#
# glibc rather than a static musl binary: musl's allocator and resolver cost a loader of rows more than the few megabytes they save. The base
# image brings the root certificates that AWS's own endpoints need; those of RDS are in the binary.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package spillway-task && cp target/release/spillway-task /spillway-task

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /spillway-task /spillway-task
# The number, so that the platform can tell that it is not root.
USER 65532:65532
# Exec form: SIGTERM reaches the task itself, which rolls back and exits 75.
ENTRYPOINT ["/spillway-task"]
