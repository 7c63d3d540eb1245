package keybroker

import "encoding/json"

const (
	// media is what bytes that are no text (an image, a file by reference) are taken for, in tokens.
	media = 2_240
	// mediaBytes of base64 are taken for one token in longer media.
	mediaBytes = 40
)

// EstimateInputTokens is an upper estimate of the input tokens of a request with this JSON body, made locally: 0 if the
// body is no JSON.
//
// A token is at least one byte, so the bytes would be a strict upper bound, but one about four times too high for
// prose, which would leave most of a quota unused while requests are under way. So bytes are counted by what they are:
// a digit, a mark or a line break as one token; a letter, a space or a byte beyond ASCII as half of one. Media counts by
// its size, with a flat allowance at least; a file given by reference counts that allowance only.
//
// It need not be exact: the broker corrects the charge by the usage that is reported.
func EstimateInputTokens(body []byte) int64 {
	parsed := parseJSON(body)
	if parsed == nil {
		return 0
	}
	return estimate(parsed)
}

func estimate(parsed any) int64 { return (halves(parsed) + 1) / 2 }

// halves counts in half tokens.
func halves(value any) int64 {
	switch value := value.(type) {
	case string:
		return textHalves(value)
	case json.Number:
		return textHalves(value.String())
	case []any:
		var sum int64
		for _, item := range value {
			sum += halves(item)
		}
		return sum
	case map[string]any:
		var sum int64
		for name, field := range value {
			inner, isObject := field.(map[string]any)
			switch {
			case isObject && (name == "inlineData" || name == "inline_data"):
				data, _ := inner["data"].(string)
				sum += 2 * max(media, int64(len(data))/mediaBytes)
			case isObject && (name == "fileData" || name == "file_data"):
				sum += 2 * media
			default:
				// Names of fields count too: schemas consist of them.
				sum += textHalves(name) + halves(field)
			}
		}
		return sum
	}
	return 2
}

func textHalves(text string) int64 {
	var sum int64
	for at := range len(text) {
		char := text[at]
		if char >= 'a' && char <= 'z' || char >= 'A' && char <= 'Z' || char == ' ' || char >= 0x80 {
			sum++
		} else {
			sum += 2
		}
	}
	return sum
}
