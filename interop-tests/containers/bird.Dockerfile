# A base image built by debootstrap (without a reachable registry) already has the packages.
FROM debian:bookworm-slim
RUN dpkg -s bird2 iproute2 >/dev/null 2>&1 \
 || { apt-get update && apt-get install -y --no-install-recommends bird2 iproute2; }
RUN mkdir -p /run/bird
