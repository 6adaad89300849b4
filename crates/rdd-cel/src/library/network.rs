//! IP addresses and CIDR ranges.

use std::net::IpAddr;

use crate::{
    budget::{Budget, Error, Result},
    value::Value,
};

pub(crate) const DECLARATIONS: &str = "
ip string_to_ip string : ip
ip cidr_ip cidr . : ip
isIP is_ip string : bool
ip.isCanonical ip_is_canonical string : bool
family ip_family ip . : int
isUnspecified ip_is_unspecified ip . : bool
isLoopback ip_is_loopback ip . : bool
isLinkLocalMulticast ip_is_link_local_multicast ip . : bool
isLinkLocalUnicast ip_is_link_local_unicast ip . : bool
isGlobalUnicast ip_is_global_unicast ip . : bool
cidr string_to_cidr string : cidr
isCIDR is_cidr string : bool
containsIP cidr_contains_ip_ip cidr . ip : bool
containsIP cidr_contains_ip_string cidr . string : bool
containsCIDR cidr_contains_cidr cidr . cidr : bool
containsCIDR cidr_contains_cidr_string cidr . string : bool
masked cidr_masked cidr . : cidr
prefixLength cidr_prefix_length cidr . : int
";

fn ip(text: &str) -> Result<IpAddr> {
    if let Some((address, zone)) = text.split_once('%')
        && address.contains(':')
        && !zone.is_empty()
    {
        return Err(Error::new(format!(
            "IP address {text:?} with zone value is not allowed"
        )));
    }
    let address: IpAddr = text.parse().map_err(|_| {
        let why = unread(text);
        Error::new(format!(
            "IP Address {text:?} parse error during conversion from string: \
             ParseAddr({text:?}): {why}"
        ))
    })?;
    if mapped(address) {
        return Err(Error::new(format!(
            "IPv4-mapped IPv6 address {text:?} is not allowed"
        )));
    }
    Ok(address)
}

fn mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// Why a text is no address, as Go tells it for the common cases.
fn unread(text: &str) -> String {
    if text.contains('%') && text.contains(':') {
        return "zone must be a non-empty string".to_owned();
    }
    if !text.contains('.') || text.contains(':') {
        return "unable to parse IP".to_owned();
    }
    if let Some(at) = text.find(|one: char| !one.is_ascii_digit() && one != '.') {
        return format!("unexpected character (at {:?})", &text[at..]);
    }
    let fields: Vec<&str> = text.split('.').collect();
    for (index, field) in fields.iter().enumerate() {
        if field.is_empty() {
            return format!(
                "IPv4 field must have at least one digit (at {:?})",
                fields[index..].join(".")
            );
        }
        if field.len() > 1 && field.starts_with('0') {
            return "IPv4 field has octet with leading zero".to_owned();
        }
        if field.parse::<u8>().is_err() {
            return "IPv4 field has value >255".to_owned();
        }
    }
    if fields.len() < 4 {
        "IPv4 address too short".to_owned()
    } else {
        "IPv4 address too long".to_owned()
    }
}

fn cidr(text: &str) -> Result<(IpAddr, u8)> {
    const FAILED: &str = "network address parse error during conversion from string: ";
    let failed = |why: &str| {
        Error::new(format!(
            "{FAILED}{FAILED}netip.ParsePrefix({text:?}): {why}"
        ))
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| failed("no '/'"))?;
    if address.contains('%') && address.contains(':') {
        return Err(failed("IPv6 zones cannot be present in a prefix"));
    }
    let address: IpAddr = address
        .parse()
        .map_err(|_| failed(&format!("ParseAddr({address:?}): {}", unread(address))))?;
    let plain = !bits.is_empty()
        && bits.bytes().all(|one| one.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    if !plain {
        return Err(failed(&format!("bad bits after slash: {bits:?}")));
    }
    let bits: u8 = bits
        .parse()
        .ok()
        .filter(|bits| *bits <= length(address))
        .ok_or_else(|| failed("prefix length out of range"))?;
    if mapped(address) {
        return Err(Error::new(format!(
            "{FAILED}IPv4-mapped IPv6 address {text:?} is not allowed"
        )));
    }
    Ok((address, bits))
}

fn length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

fn contains(network: (IpAddr, u8), address: IpAddr) -> bool {
    network.0.is_ipv4() == address.is_ipv4()
        && masked(network.0, network.1) == masked(address, network.1)
}

fn link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn global_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !broadcast
        && !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !link_local_unicast(address)
}

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], _budget: &mut Budget) -> Result<Value<'a>> {
    let truth = |value| Ok(Value::Bool(value));
    match (name, args) {
        ("ip", [Value::String(text)]) => ip(text.as_str()).map(Value::Ip),
        ("ip", [Value::Cidr(address, _)]) => Ok(Value::Ip(*address)),
        ("isIP", [Value::String(text)]) => truth(ip(text.as_str()).is_ok()),
        ("ip.isCanonical", [Value::String(text)]) => {
            truth(ip(text.as_str())?.to_string() == text.as_str())
        }
        ("cidr", [Value::String(text)]) => {
            cidr(text.as_str()).map(|(address, bits)| Value::Cidr(address, bits))
        }
        ("isCIDR", [Value::String(text)]) => truth(cidr(text.as_str()).is_ok()),
        ("family", [Value::Ip(address)]) => Ok(Value::Int(if address.is_ipv4() { 4 } else { 6 })),
        ("isUnspecified", [Value::Ip(address)]) => truth(address.is_unspecified()),
        ("isLoopback", [Value::Ip(address)]) => truth(address.is_loopback()),
        ("isLinkLocalMulticast", [Value::Ip(address)]) => truth(link_local_multicast(*address)),
        ("isLinkLocalUnicast", [Value::Ip(address)]) => truth(link_local_unicast(*address)),
        ("isGlobalUnicast", [Value::Ip(address)]) => truth(global_unicast(*address)),
        ("containsIP", [Value::Cidr(network, bits), other]) => {
            let address = match other {
                Value::Ip(address) => *address,
                Value::String(text) => ip(text.as_str())?,
                _ => return Err(Error::overload()),
            };
            truth(contains((*network, *bits), address))
        }
        ("containsCIDR", [Value::Cidr(network, bits), other]) => {
            let (address, length) = match other {
                Value::Cidr(address, length) => (*address, *length),
                Value::String(text) => cidr(text.as_str())?,
                _ => return Err(Error::overload()),
            };
            truth(length >= *bits && contains((*network, *bits), address))
        }
        ("masked", [Value::Cidr(address, bits)]) => Ok(Value::Cidr(masked(*address, *bits), *bits)),
        ("prefixLength", [Value::Cidr(_, bits)]) => Ok(Value::Int(i64::from(*bits))),
        _ => Err(Error::overload()),
    }
}
