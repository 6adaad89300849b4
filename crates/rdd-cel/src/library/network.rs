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
    let failed = |why: &str| {
        Error::new(format!(
            "IP Address {text:?} parse error during conversion from string: {why}"
        ))
    };
    let address: IpAddr = text
        .parse()
        .map_err(|_| failed(&format!("ParseAddr({text:?}): unable to parse IP")))?;
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(Error::new("IPv4-mapped IPv6 address is not allowed"));
    }
    Ok(address)
}

fn cidr(text: &str) -> Result<(IpAddr, u8)> {
    let failed = |why: &str| {
        Error::new(format!(
            "network address parse error during conversion from string: \
             netip.ParsePrefix({text:?}): {why}"
        ))
    };
    let (address, bits) = text.split_once('/').ok_or_else(|| failed("no '/'"))?;
    let address = ip(address).map_err(|_| failed("unable to parse IP"))?;
    let plain = !bits.is_empty()
        && bits.bytes().all(|one| one.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = bits
        .parse()
        .ok()
        .filter(|bits| plain && *bits <= length(address))
        .ok_or_else(|| failed("prefix length out of range"))?;
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
