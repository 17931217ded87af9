# A base image built by debootstrap (without a reachable registry) already has the packages.
FROM debian:bookworm-slim
RUN dpkg -s frr iproute2 >/dev/null 2>&1 \
 || { apt-get update && apt-get install -y --no-install-recommends frr iproute2; }
COPY frr.sh /frr.sh
CMD ["sh", "/frr.sh"]
