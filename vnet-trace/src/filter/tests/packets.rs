//! Packets for expressions to judge: whole ones of each protocol, with values that the sentences ask for, and broken ones.

/// A small generator of numbers, the same for the same seed everywhere.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 8) % limit
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

const PORTS: &[u16] = &[22, 53, 80, 443, 4789, 6081, 8080, 40000, 65535];
const MACS: &[[u8; 6]] =
    &[[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]];
const V4: &[[u8; 4]] =
    &[[10, 0, 0, 1], [10, 0, 0, 2], [10, 1, 0, 7], [192, 168, 1, 1], [224, 0, 0, 1], [255, 255, 255, 255]];

/// So many frames.
pub fn frames(seed: u64, count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut numbers = Numbers::new(seed);
    (0..count).map(move |_| frame(&mut numbers))
}

/// A TCP segment over IPv4 without options.
pub fn tcp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    segment.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0, 64, 0, 0, 0, 0]);
    segment.extend_from_slice(payload);
    let mut frame = [&MACS[0][..], &MACS[1][..], &[8, 0]].concat();
    frame.extend_from_slice(&ipv4(&mut Numbers::new(1), 6, &segment, 5, 0));
    frame
}

fn frame(numbers: &mut Numbers) -> Vec<u8> {
    let mut frame = [numbers.pick(MACS), numbers.pick(MACS)].concat();
    for _ in 0..numbers.pick(&[0, 0, 0, 1, 2]) {
        frame.extend_from_slice(&numbers.pick(&[0x8100_u16, 0x8100, 0x88a8]).to_be_bytes());
        frame.extend_from_slice(&numbers.pick(&[1_u16, 7, 0x2007, 100]).to_be_bytes());
    }
    let (ether_type, content) = network(numbers, 0);
    frame.extend_from_slice(&ether_type.to_be_bytes());
    frame.extend_from_slice(&content);
    match numbers.below(12) {
        0 => frame.truncate(numbers.below(frame.len() as u64 + 1) as usize),
        1 => {
            for _ in 0..4 {
                let at = numbers.below(frame.len() as u64) as usize;
                frame[at] = numbers.next() as u8;
            }
        }
        _ => {}
    }
    frame
}

fn network(numbers: &mut Numbers, depth: u32) -> (u16, Vec<u8>) {
    match numbers.below(20) {
        0..11 => {
            let (protocol, content) = transport(numbers, depth);
            let words = numbers.pick(&[5, 5, 5, 6, 8, 15]);
            let fragment = numbers.pick(&[0, 0, 0, 0, 0x4000, 0x2000, 0x0010]);
            (0x0800, ipv4(numbers, protocol, &content, words, fragment))
        }
        11..16 => {
            let (protocol, content) = transport(numbers, depth);
            (0x86dd, ipv6(numbers, protocol, &content))
        }
        16..18 => (0x0806, arp(numbers)),
        18 => {
            let labels = [0, 0, 0x11, 64];
            (0x8847, labels.into_iter().chain(network(numbers, depth).1).collect())
        }
        _ => (numbers.pick(&[0x8863, 0x8864, 0x88cc, 0x0026, 0x9000]), bytes(numbers, 60)),
    }
}

fn ipv4(numbers: &mut Numbers, protocol: u8, content: &[u8], words: u8, fragment: u16) -> Vec<u8> {
    let length = content.len() as u16 + u16::from(words) * 4;
    let mut packet = vec![0x40 | words, numbers.pick(&[0, 0x10, 0xb8])];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&(numbers.next() as u16).to_be_bytes());
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[numbers.pick(&[1, 63, 64, 255]), protocol, 0, 0]);
    packet.extend_from_slice(&numbers.pick(V4));
    packet.extend_from_slice(&numbers.pick(V4));
    packet.resize(usize::from(words) * 4, 1);
    packet.extend_from_slice(content);
    packet
}

fn ipv6(numbers: &mut Numbers, protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(content.len() as u16).to_be_bytes());
    let has_fragment = numbers.below(8) == 0;
    packet.extend_from_slice(&[if has_fragment { 44 } else { protocol }, numbers.pick(&[1, 64])]);
    for _ in 0..2 {
        packet.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, numbers.pick(&[1, 2])]);
    }
    if has_fragment {
        packet.extend_from_slice(&[protocol, 0, 0, numbers.pick(&[0, 1, 8]), 0, 0, 0, 1]);
    }
    packet.extend_from_slice(content);
    packet
}

fn arp(numbers: &mut Numbers) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, numbers.pick(&[1, 2])];
    for _ in 0..2 {
        packet.extend_from_slice(&numbers.pick(MACS));
        packet.extend_from_slice(&numbers.pick(V4));
    }
    packet
}

fn transport(numbers: &mut Numbers, depth: u32) -> (u8, Vec<u8>) {
    let ports = [numbers.pick(PORTS).to_be_bytes(), numbers.pick(PORTS).to_be_bytes()].concat();
    let extra = numbers.pick(&[0, 10, 64, 400]);
    match numbers.below(14) {
        0..5 => {
            let words = numbers.pick(&[5_u8, 5, 8, 15]);
            let mut segment = ports;
            segment.extend_from_slice(&[
                0,
                0,
                0,
                1,
                0,
                0,
                0,
                2,
                words << 4,
                numbers.pick(&[0x02, 0x10, 0x12, 0x18, 0x11, 0x04]),
            ]);
            segment.extend_from_slice(&[0, 64, 0, 0, 0, 0]);
            segment.resize(usize::from(words) * 4, 1);
            segment.extend_from_slice(numbers.pick(&[&b"GET / HTTP/1.1\r\n"[..], b"HTTP/1.1 200 OK\r\n", b""]));
            segment.extend(bytes(numbers, extra));
            (6, segment)
        }
        5..9 => {
            let mut datagram = ports;
            datagram.extend_from_slice(&[0, 8 + extra as u8, 0, 0]);
            datagram.extend(bytes(numbers, extra));
            (17, datagram)
        }
        9..11 => {
            let mut message =
                vec![numbers.pick(&[0, 3, 8, 11, 128, 129, 135, 136]), numbers.pick(&[0, 1, 3]), 0, 0, 0, 7, 0, 1];
            message.extend(bytes(numbers, extra));
            (numbers.pick(&[1, 1, 58]), message)
        }
        11 if depth == 0 => {
            let (ether_type, content) = network(numbers, depth + 1);
            let mut gre = vec![numbers.pick(&[0, 0x20]), 0];
            gre.extend_from_slice(&ether_type.to_be_bytes());
            gre.extend(content);
            (47, gre)
        }
        12 => (132, [ports, bytes(numbers, 12)].concat()),
        _ => (numbers.pick(&[2, 4, 41, 50, 51, 89, 103, 112]), bytes(numbers, extra)),
    }
}

fn bytes(numbers: &mut Numbers, count: u64) -> Vec<u8> {
    (0..count).map(|_| numbers.next() as u8).collect()
}
