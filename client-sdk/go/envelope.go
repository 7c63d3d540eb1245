package keybroker

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// envelope is the part of an answer, or of one event of it, that tells whether it is an error, what it used, and what
// it made. It says nothing about what an error means.
type envelope struct {
	Error         json.RawMessage `json:"error"`
	ID            json.RawMessage `json:"id"`
	Name          string          `json:"name"`
	UsageMetadata *Usage          `json:"usageMetadata"`
	Candidates    []struct {
		FinishReason string `json:"finishReason"`
	} `json:"candidates"`
	PromptFeedback struct {
		BlockReason string `json:"blockReason"`
	} `json:"promptFeedback"`
	File struct {
		Name string `json:"name"`
	} `json:"file"`
	Interaction struct {
		ID string `json:"id"`
	} `json:"interaction"`
}

func readEnvelope(body []byte) *envelope {
	read := &envelope{}
	body = bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(body) == 0:
	case body[0] == '{':
		// A field of another type than expected leaves the others readable.
		_ = json.Unmarshal(body, read)
	case body[0] == '[':
		var members []json.RawMessage
		if json.Unmarshal(body, &members) == nil && len(members) > 0 {
			if first := readEnvelope(members[0]); first.isError() {
				return first
			}
		}
	}
	return read
}

// isError is whether this is an error and nothing else. A file, an operation or an interaction that failed holds an
// error too, but has a name or an id: it was answered well.
func (e *envelope) isError() bool {
	return len(e.Error) > 0 && e.Error[0] == '{' && e.Name == "" && len(e.ID) == 0
}

// status is the HTTP status that an error object names, or else that of the answer.
func (e *envelope) status(answer int) int {
	var named struct {
		Code json.RawMessage `json:"code"`
	}
	var code int
	if json.Unmarshal(e.Error, &named) == nil && json.Unmarshal(named.Code, &code) == nil && code >= 100 && code <= 599 {
		return code
	}
	return answer
}

// id is that of an interaction; other things have names.
func (e *envelope) id() string {
	var id string
	if len(e.ID) > 0 {
		_ = json.Unmarshal(e.ID, &id)
	}
	return id
}

func (e *envelope) usage() Usage {
	if e.UsageMetadata == nil {
		return Usage{}
	}
	return *e.UsageMetadata
}

// isFinished is whether the answer ends with this event.
func (e *envelope) isFinished() bool {
	for _, candidate := range e.Candidates {
		if candidate.FinishReason != "" {
			return true
		}
	}
	return e.PromptFeedback.BlockReason != ""
}

func isJSON(header http.Header) bool {
	return bytes.Contains([]byte(header.Get("Content-Type")), []byte("json"))
}

// parseJSON keeps numbers as they are written; nil if it is none.
func parseJSON(body []byte) any {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var parsed any
	if decoder.Decode(&parsed) != nil {
		return nil
	}
	return parsed
}
