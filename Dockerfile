# The Fargate task: one binary, no shell, no package manager, not root. `make image` builds it and prints the commands that push it.
#
# glibc instead of a static musl binary: musl's allocator and resolver slow a load down by more than the few saved megabytes are worth.
# Base images are named by tag, so that a build gets their fixes. To fix them, replace each tag by the digest that
# `docker buildx imagetools inspect IMAGE` prints; Dependabot then proposes newer digests.
# The base image contains the root certificates for AWS endpoints. The binary contains those of RDS.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package spillway-task && cp target/release/spillway-task /spillway-task

# checkov:skip=CKV_DOCKER_2: a task that has ended is its own health check
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /spillway-task /spillway-task
# As a number, so that the platform can verify that it is not root.
USER 65532:65532
# Exec form, so that SIGTERM reaches the task, which rolls back and exits with 75.
ENTRYPOINT ["/spillway-task"]
