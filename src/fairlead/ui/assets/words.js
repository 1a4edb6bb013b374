// How things are called and written: the same words as `fairlead topology` and `fairlead trace` use.

export const SIGNS = { missing: "✗", unowned: "?", differs: "!" };
export const MEANINGS = {
  missing: "a record wants it, and it is not there",
  unowned: "it is there, and no record knows it",
  differs: "it is not as its record says",
};

const collator = new Intl.Collator("en", { numeric: true });
export const natural = (a, b) => collator.compare(a, b);

export const sign = (mark) => (mark ? `${SIGNS[mark]} ` : "");
export const plain = (address) => address.split("/")[0];

/** What the kernel gives every link by itself says nothing. */
export const addresses = (port) => port.Addresses.filter((one) => !one.startsWith("fe80:"));

/** Bytes per second as bits per second. */
export function rate(bytes) {
  let value = bytes * 8;
  for (const unit of ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]) {
    if (value < 1000 || unit === "Gbit/s") return `${value < 10 && unit !== "bit/s" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1000;
  }
  return "";
}

export function amount(bytes) {
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (value < 1000 || unit === "TB") return `${value < 10 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1000;
  }
  return "";
}

/** `vlan 10`, `macvlan bridge`… */
export function kind(port) {
  const data = Object.entries(port.Data ?? {}).flatMap(([name, value]) =>
    ["id", "mode"].includes(name) ? [value] : name === "group" ? [`to ${value}`] : name === "local" ? [`from ${value}`] :
        name === "vlan_filtering" ? ["that filters VLANs"] : []);
  return [port.Kind, ...data].join(" ");
}

/** What an interface is, and what is unusual about it. */
export function qualities(model, room, port) {
  const words = [];
  if (!["veth", "device", "loopback"].includes(port.Kind)) {
    const below = port.Parent?.Namespace === room.Id ? port.Parent.Interface : "";
    words.push(kind(port) + (below && ` on ${below}`));
  }
  if (room.Kind === "host") {
    for (const net of model.networks)
      if (net.Interface === port.Name) words.push(`network ${net.Name}${net.Internal ? " (internal)" : ""}`);
    if (model.masquerades(port)) words.push("NAT");
  }
  if (port.Mtu && port.Mtu !== 1500 && port.Kind !== "loopback") words.push(`mtu ${port.Mtu}`);
  words.push(...vlans(port));
  if (port.Isolated) words.push("isolated");
  const state = quiet(port);
  if (state) words.push(state);
  return words;
}

/** Of a bridge that filters VLANs and of its ports: `vlan 1`, `tagged 10,20-22`; the first without tags. */
export function vlans(port) {
  if (!port.Vlans) return [];
  const span = (row) => (row.First === row.Last ? `${row.First}` : `${row.First}-${row.Last}`);
  const group = (word, fits) => {
    const found = port.Vlans.filter(fits).map(span);
    return found.length ? [`${word} ${found.join(",")}`] : [];
  };
  const words = [
    ...group("vlan", (row) => row.Pvid && row.Untagged),
    ...group("pvid", (row) => row.Pvid && !row.Untagged),
    ...group("tagged", (row) => !row.Untagged),
    ...group("untagged", (row) => row.Untagged && !row.Pvid),
  ];
  return words.length ? words : ["no vlan"];
}

export function quiet(port) {
  if (port.Mark === "missing") return "missing";
  return port.Carries ? "" : port.Up ? "no carrier" : "down";
}

export function role(room) {
  if (["fairlead", "host", "process"].includes(room.Manager)) return room.Kind;
  return room.Manager === "ip netns" ? "ip netns" : `${room.Manager} ${room.Kind}`;
}

export function published(one) {
  const where = one.HostIp ? `${one.HostIp.includes(":") ? `[${one.HostIp}]` : one.HostIp}:` : "";
  return `${sign(one.Mark)}${where}${one.HostPort}/${one.Protocol} → ${one.Port}`;
}

/** One hop of a trace. */
export function hop(one) {
  const on = one.Bridge ? ` (port of ${one.Bridge})` : "";
  switch (one.Kind) {
    case "send": return `↑ ${one.Interface}${on} sends`;
    case "receive": return `↓ ${one.Interface}${on} receives`;
    case "route": return `→ route to ${one.Text}`;
    case "nat": return `⇄ ${one.Text}`;
    case "drop": return `✘ dropped by the kernel: ${one.Reason || one.Function || "no reason given"}`;
    default: {
      const handle = one.Handle ? ` handle ${one.Handle}` : "";
      return `${one.Verdict === "drop" ? "✘" : "✔"} ${one.Family} ${one.Table} ${one.Chain}${handle}, of ${one.Owner ?? ""}: ${one.Text}`;
    }
  }
}
