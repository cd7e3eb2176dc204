//! What Redis does in one piece.

use std::sync::LazyLock;

use redis::Script;

/// Offsets of a life begin at its time in milliseconds times this, so that they are greater than those of every life
/// before: that one would have had to take more records than these in each millisecond of its time.
pub(super) const OFFSETS_PER_MS: u64 = 1_000;

/// Sees to it that a shard has a life other than the one that is told to be over, and none before the one that is
/// known, and tells which. A stream that has come back from an old copy begins another.
///
/// Keys: the life, the stream. Arguments: the life that is over, or nothing; the life that is known; the first that a new
/// one may be, so that its offsets are greater than those that were read.
pub(super) static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local life = redis.call('GET', KEYS[1])
        local is_there = redis.call('EXISTS', KEYS[2]) == 1
        local is_over = life == ARGV[1] or (life and tonumber(life) < tonumber(ARGV[2]))
        if life and is_there and not is_over then return life end
        local time = redis.call('TIME')
        local new = time[1] * 1000 + math.floor(time[2] / 1000)
        if life and tonumber(life) >= new then new = tonumber(life) + 1 end
        if is_there then
            local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
            local before = last and tonumber(string.match(last[1], '^(%d+)-')) or 0
            if before >= new then new = before + 1 end
        end
        if new < tonumber(ARGV[3]) then new = tonumber(ARGV[3]) end
        new = string.format('%.0f', new)
        redis.call('XADD', KEYS[2], new .. '-' .. new .. '000', 'begins', new)
        redis.call('SET', KEYS[1], new)
        return new
        ",
    )
});

/// Appends records in the order given, once: a batch that was appended already is not appended again. Tells the offset
/// of the first. Refuses with `LIFE` if the life is another, and with `LOST` if the stream ends before what was read of
/// it, as one does whose newest records a failover has lost.
///
/// Keys: the life, the stream, the writer. Arguments: the life, the number of the batch, the most records to keep, for
/// how many milliseconds the writer is remembered, the offset up to which was read, the records.
pub(super) static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 0 then
            return redis.error_reply('LIFE is another')
        end
        local number, first = string.match(redis.call('GET', KEYS[3]) or '', '^(%d+):(%d+)$')
        if number and tonumber(number) >= tonumber(ARGV[2]) then
            if tonumber(number) == tonumber(ARGV[2]) then return first end
            return redis.error_reply('LATE is the batch')
        end
        first = nil
        for index = 6, #ARGV do
            local id = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], ARGV[1] .. '-*', 'r', ARGV[index])
            if not first then
                first = string.match(id, '-(%d+)$')
                if tonumber(first) <= tonumber(ARGV[5]) then
                    redis.call('XDEL', KEYS[2], id)
                    return redis.error_reply('LOST is what was read')
                end
            end
        end
        redis.call('SET', KEYS[3], ARGV[2] .. ':' .. first, 'PX', ARGV[4])
        return first
        ",
    )
});

/// Life, newest id and oldest id of a stream, and the record at an id, if there is one. It writes the life as it is,
/// so that a server that only reads refuses.
///
/// Keys: the life, the stream. Argument: the id.
pub(super) static LOOK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local life = redis.call('GET', KEYS[1])
        if not life or redis.call('EXISTS', KEYS[2]) == 0 then return {} end
        redis.call('SET', KEYS[1], life)
        local last, first, last_id = '', '', ''
        local info = redis.call('XINFO', 'STREAM', KEYS[2])
        for index = 1, #info, 2 do
            if info[index] == 'last-generated-id' then last_id = info[index + 1] end
            if info[index] == 'first-entry' and info[index + 1] then first = info[index + 1][1] end
        end
        local at = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
        return {life, last_id, first, at and at[2][2] or ''}
        ",
    )
});

/// Life and offset of an id.
pub(super) fn parse(id: &str) -> Option<(u64, u64)> {
    let (life, offset) = id.split_once('-')?;
    Some((life.parse().ok()?, offset.parse().ok()?))
}

/// The epoch of positions, for a life of a shard: 8 letters and digits until the year 2059, and the shard.
pub(super) fn epoch(life: u64, shard: usize) -> String {
    let mut digits = Vec::new();
    let mut rest = life;
    while rest > 0 {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize]);
        rest /= 36;
    }
    digits.reverse();
    format!("{}{shard}", String::from_utf8_lossy(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_told_in_eight_letters() {
        assert_eq!(epoch(1_795_000_000_000, 3), "mwm0nk743");
        assert_ne!(epoch(1_795_000_000_001, 3), epoch(1_795_000_000_000, 3));
        assert_eq!((parse("17-4"), parse("17"), parse("x-4")), (Some((17, 4)), None, None));
    }
}
