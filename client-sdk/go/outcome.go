package keybroker

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
)

// mostBody is how much of an error body is reported, in bytes; the broker reads no more.
const mostBody = 64 << 10

// Usage is the tokens of an answer, from its usageMetadata; what is not known is nil. See [Tokens].
type Usage struct {
	// InputTokens is promptTokenCount: input tokens, cached ones included.
	InputTokens *int64 `json:"promptTokenCount"`
	// OutputTokens is candidatesTokenCount.
	OutputTokens *int64 `json:"candidatesTokenCount"`
	// TotalTokens is totalTokenCount.
	TotalTokens *int64 `json:"totalTokenCount"`
	// ThoughtsTokens is thoughtsTokenCount.
	ThoughtsTokens *int64 `json:"thoughtsTokenCount"`
	// CachedTokens is cachedContentTokenCount.
	CachedTokens *int64 `json:"cachedContentTokenCount"`
}

// Tokens is a number of tokens that is known.
func Tokens(count int64) *int64 { return &count }

func (u Usage) toProto() *pb.Usage {
	return &pb.Usage{
		InputTokens: u.InputTokens, OutputTokens: u.OutputTokens, TotalTokens: u.TotalTokens,
		ThoughtsTokens: u.ThoughtsTokens, CachedTokens: u.CachedTokens,
	}
}

// TransportKind is why no complete answer came, by its name in the contract.
type TransportKind string

const (
	// Connect means that the connection was refused or could not be made; nothing was sent.
	Connect TransportKind = "CONNECT"
	// Timeout means that no answer came in time.
	Timeout TransportKind = "TIMEOUT"
	// Reset means that the connection broke before the answer was complete.
	Reset TransportKind = "RESET"
	// Cancelled means that the caller gave up while the request was on its way.
	Cancelled TransportKind = "CANCELLED"
)

// An outcome is what a lease came to, without its id.
func success(usage Usage) *pb.LeaseReport {
	return &pb.LeaseReport{Outcome: &pb.LeaseReport_Success{Success: &pb.Success{Usage: usage.toProto()}}}
}

func httpError(status int, body []byte, retryAfter time.Duration) *pb.LeaseReport {
	reported := &pb.HttpError{Status: int32(status), Body: body[:min(len(body), mostBody)]}
	if retryAfter > 0 {
		reported.RetryAfter = durationpb.New(retryAfter)
	}
	return &pb.LeaseReport{Outcome: &pb.LeaseReport_HttpError{HttpError: reported}}
}

func transportError(kind TransportKind, message string, usage Usage) *pb.LeaseReport {
	return &pb.LeaseReport{Outcome: &pb.LeaseReport_TransportError{TransportError: &pb.TransportError{
		Kind: pb.TransportError_Kind(pb.TransportError_Kind_value[string(kind)]), Message: message, Usage: usage.toProto(),
	}}}
}

func notSent() *pb.LeaseReport {
	return &pb.LeaseReport{Outcome: &pb.LeaseReport_NotSent{NotSent: &pb.NotSent{}}}
}
