//! Where the keys of a pool lie in a Redis Cluster: all share one hash tag, so all lie in one slot.

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a pool's keys: CRC-16/XMODEM of the hash tag, modulo the number of slots, as the Redis Cluster
/// specification has it.
pub fn slot_of(pool: &str) -> u16 {
    let crc = pool.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// The shard of a cluster whose shards have equal ranges of slots.
pub(super) fn shard_of(pool: &str, shards: usize) -> usize {
    usize::from(slot_of(pool)) * shards / usize::from(SLOTS)
}
