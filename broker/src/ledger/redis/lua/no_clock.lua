-- Applying a catalogue reads no clock: nothing is forgotten by it.

local day_ends, month_ends, now = {}, {}, 0
