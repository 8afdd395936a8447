# One file, two images:
#   docker build --tag llm-cxr:0.1.0 .
#   docker build --tag llm-cxr:0.1.0-cuda --build-arg TARGET=cuda .
# With `--build-arg REVISION="$(git rev-parse HEAD)"` the image's label, `llm-cxr --version`, /v1/info and llm_cxr_build_info tell of which commit it is.
# It needs BuildKit (which Docker has by itself since 23) or buildah, and no frontend that would have to be fetched.
# Behind a mirror, hand in its settings (they are not kept in the image; debian.sources takes the place of Debian's own list):
#   docker build --secret id=pip,src=$HOME/.config/pip/pip.conf --secret id=cargo,src=$HOME/.cargo/config.toml \
#       --secret id=apt,src=debian.sources .

ARG TARGET=cpu
ARG REVISION=

FROM rust:1.95-slim-bookworm AS builder
ARG TARGET
RUN --mount=type=secret,id=apt,target=/etc/apt/sources.list.d/debian.sources \
    apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates g++ make python3-pip \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
ENV LLM_CXR_CACHE=/cache
ARG REVISION
# Both images run the same binaries, linked with the CPU set: CUDA is looked for at start, by dlopen.
# Every checkout on a builder shares the caches. Cargo tells what is fresh by the times of files, which COPY keeps: without the `touch` an older
# checkout would get the binaries of a newer one. Dependencies, which lie elsewhere, stay built.
RUN --mount=type=cache,id=llm-cxr-libtorch,target=/cache,sharing=locked \
    --mount=type=cache,id=llm-cxr-cargo-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=llm-cxr-target,target=/build/target,sharing=locked \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=cargo,target=/usr/local/cargo/config.toml \
    set -eu; \
    find . -path ./target -prune -o -type f -exec touch {} +; \
    LLM_CXR_REVISION="$REVISION" make build; \
    case "$TARGET" in \
        cpu) libtorch=$(python3 scripts/libtorch.py --no-link) ;; \
        cuda) libtorch=$(python3 scripts/libtorch.py --no-link --cuda) ;; \
        *) echo "TARGET is cpu or cuda, not $TARGET" >&2; exit 1 ;; \
    esac; \
    mkdir -p /out/bin; \
    cp target/release/llm-cxr target/release/llm-cxr-train /out/bin/; \
    strip --strip-debug /out/bin/*; \
    cp -R "$libtorch/lib" "$libtorch/licences" /out/; \
    cp LICENSE /out/licences/LICENSE; \
    python3 scripts/notices.py --out /out/licences $(test "$TARGET" = cpu || echo --cuda)

FROM debian:bookworm-slim AS system-cpu

FROM system-cpu AS system-cuda
# Asks NVIDIA's runtime for the GPUs; the CPU image must not.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM system-${TARGET}
ARG TARGET
RUN --mount=type=secret,id=apt,target=/etc/apt/sources.list.d/debian.sources \
    apt-get update \
 && apt-get install --yes --no-install-recommends libstdc++6 libgcc-s1 zlib1g \
 && rm -rf /var/lib/apt/lists/*
ARG REVISION
LABEL org.opencontainers.image.title="llm-cxr" \
      org.opencontainers.image.description="Reads and draws chest X-rays with one language model. Research only, not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.llm-cxr.target="${TARGET}"
# The binaries look for libtorch in ../lib.
COPY --from=builder /out /opt/llm-cxr
ENV PATH=/opt/llm-cxr/bin:$PATH \
    LLM_CXR_MODEL=/models \
    LLM_CXR_LISTEN=0.0.0.0:8080 \
    LLM_CXR_OPS_LISTEN=127.0.0.1:9090 \
    LLM_CXR_LOG_FORMAT=json
# Nothing is written at run time: works with a read-only root, whatever the user.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# Whether it lives, at a port that clients cannot fill and nobody outside reaches.
# Each question starts the program, which takes a quarter of a second of a core.
HEALTHCHECK --interval=30s --timeout=5s --start-period=1m --retries=3 \
    CMD ["/opt/llm-cxr/bin/llm-cxr", "healthcheck", "--url", "http://127.0.0.1:9090/livez"]
ENTRYPOINT ["/opt/llm-cxr/bin/llm-cxr"]
CMD ["serve"]
