package keybroker

import (
	"bytes"
	"strings"
)

const mask = "[redacted]"

// redact masks every occurrence of the key in what came back: some of Google's errors echo it whole.
func redact(body []byte, key string) []byte {
	if key == "" || !bytes.Contains(body, []byte(key)) {
		return body
	}
	return bytes.ReplaceAll(body, []byte(key), []byte(mask))
}

func redactText(text, key string) string {
	if key == "" {
		return text
	}
	return strings.ReplaceAll(text, key, mask)
}
