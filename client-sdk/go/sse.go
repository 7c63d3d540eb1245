package keybroker

import "bytes"

// mostStray is how much of what is no event is kept, in bytes.
const mostStray = 64 << 10

// sseDecoder takes the bytes of server-sent events as they arrive, and gives events as they are complete. Lines end with
// LF or CRLF.
//
// It is written out because two things matter here that general decoders leave out: an error object sent into the
// stream as plain JSON, without "data:", must be found; and an event of megabytes that arrives in small pieces must cost
// time in proportion to its size.
type sseDecoder struct {
	buffer []byte
	// start is where the next unread line begins, searched up to where there is known to be no line end.
	start, searched int
	data            []byte
	stray           []byte
}

func (d *sseDecoder) push(piece []byte) {
	if d.start > 0 {
		d.buffer = append(d.buffer[:0], d.buffer[d.start:]...)
		d.searched -= d.start
		d.start = 0
	}
	d.buffer = append(d.buffer, piece...)
}

// next gives the data of the next complete event; nil if there is none yet.
func (d *sseDecoder) next() []byte {
	for {
		found := bytes.IndexByte(d.buffer[d.searched:], '\n')
		if found < 0 {
			d.searched = len(d.buffer)
			return nil
		}
		line := d.buffer[d.start : d.searched+found]
		d.start = d.searched + found + 1
		d.searched = d.start
		if d.line(line) && len(d.data) > 0 {
			event := d.data
			d.data = nil
			return event
		}
	}
}

// line reads one; true if it was empty, which closes an event.
func (d *sseDecoder) line(line []byte) bool {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return true
	}
	if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
		if len(d.data) > 0 {
			d.data = append(d.data, '\n')
		}
		d.data = append(d.data, bytes.TrimPrefix(data, []byte(" "))...)
	} else if !isOtherField(line) && len(d.stray)+len(line) < mostStray {
		d.stray = append(append(d.stray, line...), '\n')
	}
	return false
}

// isOtherField is true of comments, and of fields that carry no data.
func isOtherField(line []byte) bool {
	for _, prefix := range []string{":", "event:", "id:", "retry:"} {
		if bytes.HasPrefix(line, []byte(prefix)) {
			return true
		}
	}
	return false
}

// finish gives the event that was not closed, and the lines that are no event stream.
func (d *sseDecoder) finish() (event, stray []byte) {
	if d.start < len(d.buffer) {
		d.line(d.buffer[d.start:])
	}
	if len(d.data) > 0 {
		event = d.data
	}
	return event, d.stray
}
