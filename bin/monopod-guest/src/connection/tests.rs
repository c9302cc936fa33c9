//! The tail alone. Whole connections are tested over real ones.

use monopod_agent_proto::{NONCE_LENGTH, PREAMBLE};

use super::Tail;

#[test]
fn a_preamble_in_pieces_is_seen_when_its_last_byte_is() {
    let mut tail = Tail::default();
    tail.push(b"the rest of a frame");
    let mark = [&PREAMBLE[..], &[7; NONCE_LENGTH]].concat();
    for piece in mark.chunks(5) {
        assert_eq!(tail.nonce(), None);
        tail.push(piece);
    }
    assert_eq!(tail.nonce(), Some([7; NONCE_LENGTH]));
    tail.push(b"x");
    assert_eq!(tail.nonce(), None);
}
