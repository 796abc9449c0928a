// The page's own texts in other languages, by the English ones. Questions and answers stay as they are.

const KOREAN = {
  "Skip to the question": "질문으로 건너뛰기",
  "API key": "API 키", "Key": "키", "Language": "언어",
  "Open another": "새 사진", "Panorama": "파노라마", "panorama viewer": "파노라마 뷰어",
  "Arrow keys look around, plus and minus zoom, Home looks to the front.":
    "화살표 키로 둘러보고, 더하기와 빼기로 확대·축소하며, Home 키로 앞을 봅니다.",
  "Look around, then ask": "둘러보고 물어보세요",
  "Drop 360° panoramas here, or": "360° 파노라마를 여기에 놓거나",
  "choose pictures": "사진을 고르세요",
  "or try one of these": "또는 예시를 열어 보세요",
  "Example {number}": "예시 {number}",
  "Back to the panorama": "파노라마로 돌아가기",
  "Opening the panorama …": "파노라마를 여는 중 …",
  "Map of the whole panorama": "파노라마 전체 지도", "Where you look: yaw": "보는 방향: 요",
  "Panoramas": "파노라마 목록", "Panorama {number}": "파노라마 {number}",
  "Link what I see to": "지금 보는 곳에 연결", "choose": "선택",
  "Views the model reads": "모델이 읽는 시야", "Which views mattered": "중요했던 시야",
  "Blanks one view after the other and compares how likely the answer stays. Takes a moment after each answer.":
    "시야를 하나씩 비우고 답이 얼마나 그럴듯하게 남는지 비교합니다. 답마다 잠시 걸립니다.",
  "Questions and answers": "질문과 답", "Answers appear here.": "답이 여기에 나타납니다.",
  "Copy answers": "답 복사", "Copied.": "복사했습니다.", "Selected: copy with Ctrl+C.": "선택했습니다. Ctrl+C로 복사하세요.",
  "Does the answer hold under rotation?": "회전해도 답이 유지되나요?",
  "Rotate the panorama and ask again": "파노라마를 돌리고 다시 묻기",
  "All rotations": "모든 회전", "Rotations": "회전",
  "Ask about what I see": "보이는 것에 대해 묻기", "Questions to try": "예시 질문",
  "Question": "질문", "What is behind me?": "What is behind me?", "Ask": "묻기", "Stop": "중지", "Stopped.": "중지했습니다.",
  "in front of me": "앞", "to my front-right": "오른쪽 앞", "to my right": "오른쪽", "to my back-right": "오른쪽 뒤",
  "behind me": "뒤", "to my back-left": "왼쪽 뒤", "to my left": "왼쪽", "to my front-left": "왼쪽 앞",
  "Panorama, looking {place}": "파노라마, {place}을 봄",
  "Looking {direction}, pitch {pitch}": "{direction} 방향, 피치 {pitch}",
  "{direction} · pitch {pitch}": "{direction} · 피치 {pitch}",
  "Look there: {direction}": "그곳 보기: {direction}",
  "as answered": "답한 그대로", "size not stated": "크기는 답에 없음",
  "the question’s direction": "질문의 방향", "{source}, rotated back from {yaw}": "{source}, {yaw}에서 되돌림",
  "in view {views} of {count}": "시야 {count}개 중 {views}번", "in views {views} of {count}": "시야 {count}개 중 {views}번",
  "(no text)": "(글 없음)", "Asked with the panorama rotated by {shift}.": "파노라마를 {shift} 돌리고 물음.",
  "The picture cannot be opened: {message}": "사진을 열 수 없습니다: {message}",
  "The panorama cannot be shown: {message}": "파노라마를 보여 줄 수 없습니다: {message}",
  "rotated by {shift}": "{shift} 회전",
  "{agreeing} of {count} rotations agree": "회전 {count}개 중 {agreeing}개 일치",
  "“{answer}” instead": "대신 “{answer}”", "the same text": "같은 글",
  "the same direction, rotated back": "되돌리면 같은 방향", "{angle} apart, rotated back": "되돌리면 {angle} 차이",
  "several directions cannot be compared": "여러 방향은 비교할 수 없음",
  "The words for directions are 45° apart: this question cannot be rotated by {shift}.":
    "방향을 나타내는 말은 45° 간격이라 이 질문은 {shift} 돌릴 수 없습니다.",
  "agrees": "일치", "differs": "다름", "unknown": "알 수 없음", "not asked": "묻지 않음",
  "Blanking one view after the other, and neighbours together …": "시야를 하나씩, 또 이웃끼리 비우는 중 …",
  "Which views mattered cannot be computed: {message}": "중요했던 시야를 계산할 수 없습니다: {message}",
  "No view mattered alone, nor two neighbours together: with them blank, the answer stays about as likely or gets likelier.":
    "혼자 중요했던 시야도, 함께 중요했던 이웃도 없습니다. 비워도 답은 그만큼 또는 더 그럴듯합니다.",
  "No view mattered alone, but {names} together did: with both blank, this answer gets {share} less likely. That says neither why nor that it is right.":
    "혼자 중요했던 시야는 없지만 {names}은 함께 중요했습니다. 둘을 비우면 이 답은 {share} 덜 그럴듯합니다. 이유나 옳음을 뜻하지는 않습니다.",
  "Views that mattered: {shares}. Shares of how much less likely this answer gets with one view blank; they say neither why nor that it is right.":
    "중요했던 시야: {shares}. 시야 하나를 비울 때 이 답이 덜 그럴듯해지는 몫이며, 이유나 옳음을 뜻하지는 않습니다.",
  "{one} and {other}": "{one}, {other}", "others": "그 밖",
};
const LANGUAGES = { en: {}, ko: KOREAN };
const FIXED = ["text()", "@placeholder", "@aria-label", "@aria-roledescription", "@data-empty"].map((kind) => `//body//${kind}`);
const fixed = [];  // what the document itself says: its nodes, and their English
let texts = LANGUAGES.en;

/** Return a text in the language chosen, with values in place of {names}. */
export function say(english, values = {}) {
  return (texts[english] ?? english).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function gatherFixed() {
  const found = document.evaluate(FIXED.join("|"), document, null, XPathResult.ANY_TYPE);
  for (let node; (node = found.iterateNext()); ) if (node.nodeValue.trim() in KOREAN) fixed.push([node, node.nodeValue]);
}

/** Set the language ("en" or "ko") of the page, and of what it says from now on. */
export function setLanguage(language) {
  if (!fixed.length) gatherFixed();
  texts = LANGUAGES[language];
  document.documentElement.lang = language;
  for (const [node, english] of fixed) node.nodeValue = english.replace(english.trim(), (text) => say(text));
}

/** Return the browser's language, where the page has it, else English. */
export function preferredLanguage() {
  return navigator.languages.map((each) => each.slice(0, 2)).find((each) => each in LANGUAGES) ?? "en";
}
