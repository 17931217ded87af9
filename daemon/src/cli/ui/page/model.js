// The world: what the server sends, with what follows from it.

/** Groups BGPPeers that lead to the same router. */
function routersOf(peers) {
  const routers = new Map();
  const routerOfPeer = peers.map((peer, place) => {
    const key = `${peer.address} ${peer.asn}`;
    if (!routers.has(key)) {
      const { address, asn } = peer;
      routers.set(key, { place: routers.size, key, address, asn, peers: [], bfd: false });
    }
    const router = routers.get(key);
    router.peers.push(place);
    router.bfd ||= peer.bfd;
    return router.place;
  });
  const list = [...routers.values()];
  for (const router of list) {
    router.name = router.peers.length === 1 ? peers[router.peers[0]].name : router.address;
  }
  return { routers: list, routerOfPeer };
}

/** The nodes of a spread. `up`: as far as is known, the node has a session with some of them. */
function nodesOf(spread, healthOf) {
  const bgp = new Map();
  const isUp = (health) => health === "ok" || health === "unknown";
  for (const { peers, nodes } of spread.bgp) {
    for (const node of nodes) {
      bgp.set(node, { peers, up: peers.some((peer) => isUp(healthOf(node, peer))) });
    }
  }
  const layer2 = new Set(spread.layer2);
  return { bgp, layer2, up: layer2.size > 0 || [...bgp.values()].some(({ up }) => up) };
}

/** A service without a session on any of its nodes is not announced either. */
function withSessions(service, via) {
  const isCut = service.state !== "withheld" && !via.up;
  return isCut ? { ...service, state: "withheld", reason: "SessionDown" } : service;
}

/** The state of a session: ok, down, refused, or unknown without a BGPSession. */
export function stateOf(link) {
  if (link.refused) return "refused";
  if (link.state === undefined) return "unknown";
  return link.state === "Established" ? "ok" : "down";
}

const RANK = { withheld: 0, partly: 1, announced: 2 };

/** Compares services: what is wrong first. */
function byTrouble(a, b) {
  return RANK[a.state] - RANK[b.state] || (a.name < b.name ? -1 : 1);
}

/** What the page works with. */
export function build(event) {
  const { picture } = event;
  const { routers, routerOfPeer } = routersOf(picture.peers);
  const links = picture.links.map((link) => ({ ...link, health: stateOf(link) }));
  const linkAt = new Map(links.map((link) => [`${link.node} ${link.peer}`, link]));
  const healthOf = (node, peer) => linkAt.get(`${node} ${peer}`)?.health;
  const spreads = picture.spreads.map((spread) => nodesOf(spread, healthOf));
  const known = picture.services.map((service) => withSessions(service, spreads[service.spread]));
  const services = known.map((service) => ({
    ...service,
    text: [
      service.name,
      ...service.addresses,
      ...service.pools.map((pool) => picture.pools[pool].name),
      service.reason ?? "",
      service.policy,
      service.state,
    ].join(" ").toLowerCase(),
    via: spreads[service.spread],
  }));
  services.sort(byTrouble);
  const world = { ...event, ...picture, routers, routerOfPeer, services, links };
  world.nodes = picture.nodes.map((node, place) => ({ ...node, place, links: [] }));
  for (const link of world.links) world.nodes[link.node].links.push(link);
  for (const node of world.nodes) node.trouble = troubleOf(node);
  const nodeOf = new Map(world.nodes.map((node) => [node.name, node.place]));
  const peerOf = new Map(world.peers.map((peer, place) => [peer.name, place]));
  world.linkOf = (node, peer) => linkAt.get(`${nodeOf.get(node)} ${peerOf.get(peer)}`);
  world.nodeOf = nodeOf;
  world.troubles = troubles(world);
  return world;
}

/** What is wrong with a node, in one word: the reason that it is off, or its sessions. */
function troubleOf(node) {
  if (node.off) return node.off;
  if (node.links.some((link) => link.health === "refused")) return "PeerRefused";
  if (node.links.some((link) => link.health === "down")) return "SessionDown";
  if (node.ready === false) return "NotReady";
  return "";
}

/** What is wrong, as entries that can be chosen. */
function troubles(world) {
  const list = [];
  const reasons = new Map();
  for (const service of world.services) {
    if (service.state === "announced") continue;
    const reason = service.reason ?? "unknown";
    reasons.set(reason, [...(reasons.get(reason) ?? []), service.name]);
  }
  for (const [reason, names] of [...reasons].sort((a, b) => b[1].length - a[1].length)) {
    list.push({ kind: "services", grave: true, label: reason, names });
  }
  const nodes = (health) => world.nodes.filter((node) => node.trouble === health);
  for (const [trouble, label] of [
    ["SessionDown", "session down"],
    ["PeerRefused", "session refused"],
    ["NodeNetworkUnavailable", "network unavailable"],
    ["NotReady", "not ready"],
    ["NodeLeaving", "leaving"],
    ["NodeExcluded", "excluded"],
  ]) {
    const names = nodes(trouble).map((node) => node.name);
    const grave = trouble !== "NodeExcluded" && trouble !== "NodeLeaving";
    if (names.length > 0) list.push({ kind: "nodes", grave, label, names });
  }
  const invalid = world.problems.filter((problem) => problem.error);
  if (invalid.length > 0) {
    list.push({ kind: "problems", grave: true, label: "invalid object", names: invalid });
  }
  const full = world.pools.filter((pool) => pool.usage.some((use) => use.used >= use.capacity));
  if (full.length > 0) {
    list.push({ kind: "pools", grave: true, label: "pool full", names: full.map((p) => p.name) });
  }
  if (world.unseen.length > 0) {
    list.push({ kind: "unseen", grave: true, label: "not readable", names: world.unseen });
  }
  return list;
}

/** The services that contain all words of the filter, and are in the scope. */
export function filtered(world, words, scope) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return world.services.filter(
    (service) =>
      (!scope || scope.names.has(service.name)) &&
      wanted.every((word) => service.text.includes(word)),
  );
}
