# A base image that has the package already (made by debootstrap where no registry is at hand) is taken as it is.
FROM debian:bookworm-slim
RUN dpkg -s bird2 iproute2 >/dev/null 2>&1 \
 || { apt-get update && apt-get install -y --no-install-recommends bird2 iproute2; }
RUN mkdir -p /run/bird
