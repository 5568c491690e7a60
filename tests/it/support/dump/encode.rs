//! The little of protobuf and DER that writing keys takes.

/// Protobuf: a length-delimited field.
pub fn field_bytes(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(message, number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

/// Protobuf: a number or enum field.
pub fn field_number(message: &mut Vec<u8>, number: u64, value: u64) {
    varint(message, number << 3);
    varint(message, value);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// DER: a tag, the length and the content, given in parts.
pub fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match u8::try_from(content.len()) {
        Ok(length @ ..0x80) => vec![length],
        Ok(length) => vec![0x81, length],
        Err(_) => panic!("no key here is that long"),
    };
    [vec![tag], length, content].concat()
}
